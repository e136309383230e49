"""Choose the runs of a summary: of each subject the newest of each model, all scored on the same bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpc.base import records, text
from hpc.base.errors import UserError, raise_all
from hpc.run.history import History
from hpc.run.paths import RunPaths
from stockpred.report import runfiles, scores
from stockpred.report.runfiles import RunFiles
from stockpred.report.scores import Scored
from stockpred.score.results import GroupScores, SplitScores

_SAME_IN_EVERY_ROW = (
    *("array", "resources", "retry", "data.dir", "model.name"),
    *("training.seed", "training.num_workers", "training.checkpoint_every_s"),
)
"""Settings, and groups of them, that only say which run it is, where and how fast it goes.

The model's name is among them because it begins every label, the seed because it has a column of its own.
"""

_ROUNDING = 1e-9
"""Relative difference of errors up to which two runs were scored on the same bars."""

_KNOWS_NOTHING = "last_value"
"""The rival by which bars are recognised: its errors depend on the bars alone."""


@dataclass(frozen=True)
class Reader:
    """How a task tells its runs apart.

    ``subject`` names what a run was scored on (an asset, a case), also where there are no results.
    ``column_settings`` are settings that have a column of their own and so are no part of a run's label.
    """

    subject: Callable[[RunFiles], str]
    column_settings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TestedRun:
    """A run with results, of a test or of validation alone; ``written`` is when, in ns since 1970.

    ``settings`` are those given beyond the case and its preset, such as ``series.inputs=levels``.
    """

    __test__ = False  # its name begins like a test class of pytest

    files: RunFiles
    subject: str
    scored: Scored
    written: int
    settings: tuple[str, ...]

    @property
    def paths(self) -> RunPaths:
        return self.files.paths

    @property
    def judged(self) -> SplitScores:
        """The test, or the validation while the test is sealed."""
        judged = self.scored.judged
        assert judged is not None  # a run without scores is not gathered
        return judged

    @property
    def is_synthetic(self) -> bool:
        return self.files.is_synthetic

    @property
    def seed(self) -> int | None:
        """The training seed as the run's config has it, None where it has none."""
        seed = self.files.setting("training", "seed") or ""
        return int(seed) if seed.removeprefix("-").isdecimal() else None

    @property
    def label(self) -> str:
        """The model and the settings that differ from the case's own, without the seed."""
        return " ".join((self.judged.evaluated.model, *self.settings))

    @property
    def row(self) -> tuple[str, int]:
        """Label and seed, by which rows are sorted; a newer run with the same takes the place of an older."""
        return self.label, -1 if self.seed is None else self.seed

    @property
    def name(self) -> str:
        return f"{self.subject} {self.label} ({self.paths.run_id})"


@dataclass(frozen=True, eq=False)
class SubjectRuns:
    """The runs of one subject, by label and seed; ``newest`` is the latest of all.

    ``older`` were scored on the same bars, too, before a newer run of their label and seed.
    """

    subject: str
    newest: TestedRun
    runs: tuple[TestedRun, ...]
    older: tuple[TestedRun, ...]


@dataclass(frozen=True, eq=False)
class Gathered:
    """The subjects in the order in which they were named.

    ``without_task`` maps why runs name no task to their ids. ``left_out`` has a line for each other run that
    is not here and says why; ``problems`` are, by run, files that could not be read of runs that are.
    """

    subjects: tuple[SubjectRuns, ...]
    without_task: dict[str, tuple[str, ...]]
    left_out: tuple[str, ...]
    problems: Mapping[TestedRun, tuple[str, ...]]

    def with_problems(self, more: Mapping[TestedRun, Sequence[str]]) -> Gathered:
        """Return the same with further files that could not be read."""
        known = [run for run in self.tested if run in self.problems or run in more]
        both = {run: (*self.problems.get(run, ()), *more.get(run, ())) for run in known}
        return replace(self, problems=both)

    @property
    def runs(self) -> tuple[TestedRun, ...]:
        return tuple(run for subject in self.subjects for run in subject.runs)

    @property
    def tested(self) -> tuple[TestedRun, ...]:
        """Every run that was scored on the bars shown, those too that newer ones have replaced."""
        return tuple(run for subject in self.subjects for run in (*subject.runs, *subject.older))

    @property
    def synthetic(self) -> tuple[str, ...]:
        """The subjects whose bars are invented."""
        return tuple(dict.fromkeys(run.subject for run in self.runs if run.is_synthetic))

    @property
    def num_left_out(self) -> int:
        return len(self.left_out) + sum(map(len, self.without_task.values()))

    @property
    def absences(self) -> tuple[str, ...]:
        """All lines about runs that are not here; runs that name no task share one line for each reason."""
        without_task = (
            f"left out: {text.count(len(run_ids), 'run')} {reason}: {', '.join(run_ids)}"
            for reason, run_ids in self.without_task.items()
        )
        return (*without_task, *self.left_out)

    @property
    def damage(self) -> tuple[str, ...]:
        """A line for each run that is here without some of its files."""
        return tuple(_note(run.subject, run.files, found) for run, found in self.problems.items())

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.absences, *self.damage)


def read(run_dirs: Sequence[Path]) -> list[RunFiles]:
    """Read the files of every run, each once however often it is named."""
    return [runfiles.read(RunPaths(path)) for path in dict.fromkeys(path.resolve() for path in run_dirs)]


def only_task(files: Sequence[RunFiles]) -> str | None:
    """Return the task of the runs, None where none names one.

    Raises UserError for runs of another task than the first, all at once.
    """
    first = next((one.task for one in files if one.task), None)
    raise_all([_other_task(one, str(first)) for one in files if one.task not in (first, None)])
    return first


def _other_task(files: RunFiles, task: str) -> UserError:
    return UserError(
        f"a summary is of runs of one task, here {task}, and this one is of task {files.task}",
        where=str(files.paths.root),
        fix="leave it out",
    )


def without_task(files: Sequence[RunFiles]) -> dict[str, tuple[str, ...]]:
    """Return the ids of the runs that name no task, by the reason for it."""
    runs = [one for one in files if not one.task]
    older = tuple(one.run_id for one in runs if one.is_of_older_version)
    unreadable = tuple(one.run_id for one in runs if not one.is_of_older_version)
    reasons = {
        "of an older version, which named no task": older,
        "whose config.yaml names no task": unreadable,
    }
    return {reason: run_ids for reason, run_ids in reasons.items() if run_ids}


def nothing(files: Sequence[RunFiles]) -> Gathered:
    """Return what is said of runs none of which names a task."""
    return Gathered((), without_task(files), (), {})


def gather(files: Sequence[RunFiles], reader: Reader) -> Gathered:
    """Choose among the runs that have results; ``files`` are of one task, or of none."""
    left_out, problems = list[str](), dict[TestedRun, tuple[str, ...]]()
    with_task = [one for one in files if one.task]
    read_each = [_tested(one, reader, left_out, problems) for one in with_task]
    tested = [run for run in read_each if run is not None]
    subjects = [
        _choose([run for run in tested if run.subject == subject], left_out)
        for subject in dict.fromkeys(run.subject for run in tested)
    ]
    shown = Gathered(tuple(subjects), without_task(files), tuple(left_out), {})
    return shown.with_problems(problems)


def _tested(
    files: RunFiles, reader: Reader, left_out: list[str], problems: dict[TestedRun, tuple[str, ...]]
) -> TestedRun | None:
    """Return the run with its scores, or None and a line that says why there are none.

    A test whose results cannot be read was looked at: such a run must not pass for one that is sealed.
    """
    paths, found = files.paths, list[str]()
    scored, subject = scores.read(paths, found), reader.subject(files)
    if scored.judged is None or (scored.test is None and not scored.is_sealed):
        why = _note(subject, files, found) if found else _why_no_result(_name(subject, files), files.history)
        left_out.append(why)
        return None
    written = paths.validation_results if scored.test is None else paths.test_results
    settings = _settings(paths, (*_SAME_IN_EVERY_ROW, *reader.column_settings))
    run = TestedRun(files, subject, scored, written.stat().st_mtime_ns, settings)
    if found:
        problems[run] = tuple(found)
    return run


def _name(subject: str, files: RunFiles) -> str:
    return f"{subject} ({files.run_id})"


def _note(subject: str, files: RunFiles, problems: Sequence[str]) -> str:
    return f"{_name(subject, files)}: {'; '.join(problems)}"


def _same_bars(one: Scored, other: Scored) -> bool:
    """Say whether two runs scored a split in common, and each of those on the same bars."""
    pairs = (one.validation, other.validation), (one.test, other.test)
    both = [(first, second) for first, second in pairs if first is not None and second is not None]
    return bool(both) and all(_did_the_same(first.pooled, second.pooled) for first, second in both)


def _did_the_same(one: GroupScores, other: GroupScores) -> bool:
    """Say whether a rival that knows nothing but the bars did the same in both, over the same time."""
    if (one.num_bars, one.first_time, one.last_time) != (other.num_bars, other.first_time, other.last_time):
        return False
    first, second = _error_of_the_bars(one), _error_of_the_bars(other)
    if first is None or second is None:
        return first is second
    return math.isclose(first, second, rel_tol=_ROUNDING)


def _error_of_the_bars(group: GroupScores) -> float | None:
    return next((rival.mae_bp for rival in group.rivals if rival.name == _KNOWS_NOTHING), None)


def _why_no_result(name: str, history: History) -> str:
    if history.finished:
        return f"no result: {name}: it finished, but its results are not there"
    if history.is_over and history.last is not None:
        return f"no result: {name}: {history.last.cause or 'unknown cause'}"
    if history.is_cancelled:
        return f"no result: {name}: cancelled"
    return f"no result yet: {name}"


def _settings(paths: RunPaths, left_out: Sequence[str]) -> tuple[str, ...]:
    """Return the settings given on the command line, the last of each key, without those left out."""
    try:
        overrides = (records.read_json_if_any(paths.plan) or {}).get("overrides")
    except (OSError, ValueError):
        return ()
    if not isinstance(overrides, list) or not all(isinstance(word, str) for word in overrides):
        return ()
    last = {word.partition("=")[0]: word for word in overrides}
    return tuple(last[key] for key in sorted(last) if not _is_in(key, left_out))


def _is_in(key: str, groups: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in groups)


def _choose(tested: list[TestedRun], left_out: list[str]) -> SubjectRuns:
    """Choose among one subject's runs; name each that is left out, and why."""
    newest, *others = sorted(tested, key=lambda run: (run.written, run.paths.run_id), reverse=True)
    chosen = {newest.row: newest}
    older: list[TestedRun] = []
    for run in others:
        if not _same_bars(run.scored, newest.scored):
            left_out.append(f"left out: {run.name}, scored on other bars than {newest.paths.run_id}")
        elif run.row in chosen:
            older.append(run)
            left_out.append(f"left out: {run.name}, older than {chosen[run.row].paths.run_id}")
        else:
            chosen[run.row] = run
    runs = tuple(chosen[row] for row in sorted(chosen))
    return SubjectRuns(newest.subject, newest, runs, tuple(older))
