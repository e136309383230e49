"""Choose the runs of a summary: of each subject the newest of each model, all scored on the same bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import pandas as pd

from hpc.base import records, text
from hpc.base.errors import UserError, raise_all
from hpc.run.history import History
from hpc.run.paths import RunPaths
from stockpred.report import runfiles
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import read_or_note
from stockpred.score.metrics import EvaluatedModel

_SAME_IN_EVERY_ROW = (
    *("array", "resources", "retry", "data.dir", "model.name"),
    *("training.num_workers", "training.checkpoint_every_s"),
)
"""Settings, and groups of them, that only say which run it is, where and how fast it goes.

The model's name is among them because it begins every label.
"""

_ROUNDING = 1e-9
"""Relative difference of errors up to which two runs were scored on the same bars."""


class TaskResults(Protocol):
    """What the results of every task have."""

    @property
    def evaluated(self) -> EvaluatedModel: ...


R = TypeVar("R", bound=TaskResults)


def same_errors(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    """Say whether two runs' errors of a rival that knows nothing but the bars are those of the same bars."""
    pairs = zip(one, other, strict=True)
    return all(a is not None and b is not None and math.isclose(a, b, rel_tol=_ROUNDING) for a, b in pairs)


@dataclass(frozen=True)
class Reader(Generic[R]):
    """How a task reads its runs.

    ``subject`` names what a run was tested on (an asset, a case), also where there are no results; runs of
    one subject are side by side if ``same_bars`` says that both were scored on the same bars.
    ``column_settings`` are settings that have a column of their own and so are no part of a run's label.
    ``predictions`` is None for a task whose summary draws none.
    """

    results: Callable[[Path], R]
    subject: Callable[[RunFiles, R | None], str]
    same_bars: Callable[[R, R], bool]
    predictions: Callable[[Path], pd.DataFrame] | None = None
    column_settings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TestedRun(Generic[R]):
    """A run with results; ``written`` is when they were, in ns since 1970.

    ``settings`` are those given beyond the case and its preset, such as ``series.inputs=levels``.
    """

    __test__ = False  # its name begins like a test class of pytest

    files: RunFiles
    subject: str
    results: R
    predictions: pd.DataFrame | None
    written: int
    settings: tuple[str, ...]

    @property
    def paths(self) -> RunPaths:
        return self.files.paths

    @property
    def is_synthetic(self) -> bool:
        return self.files.is_synthetic

    @property
    def label(self) -> str:
        """The model and the settings that differ from the case's own."""
        return " ".join((self.results.evaluated.model, *self.settings))

    @property
    def name(self) -> str:
        return f"{self.subject} {self.label} ({self.paths.run_id})"


@dataclass(frozen=True, eq=False)
class SubjectRuns(Generic[R]):
    """The runs of one subject, by label; ``newest`` is the latest of all.

    ``older`` were scored on the same bars, too, before a newer run of their label.
    """

    subject: str
    newest: TestedRun[R]
    runs: tuple[TestedRun[R], ...]
    older: tuple[TestedRun[R], ...]


@dataclass(frozen=True, eq=False)
class Gathered(Generic[R]):
    """The subjects in the order in which they were named.

    ``without_task`` maps why runs name no task to their ids. ``left_out`` has a line for each other run that
    is not here and says why; ``damage`` names files that could not be read of runs that are.
    """

    subjects: tuple[SubjectRuns[R], ...]
    without_task: dict[str, tuple[str, ...]]
    left_out: tuple[str, ...]
    damage: tuple[str, ...]

    @property
    def runs(self) -> tuple[TestedRun[R], ...]:
        return tuple(run for subject in self.subjects for run in subject.runs)

    @property
    def tested(self) -> tuple[TestedRun[R], ...]:
        """Every run that was scored on the bars shown, those too that newer ones have replaced."""
        return tuple(run for subject in self.subjects for run in (*subject.runs, *subject.older))

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


def gather(files: Sequence[RunFiles], reader: Reader[R]) -> Gathered[R]:
    """Choose among the runs that have results; ``files`` are of one task, or of none."""
    left_out, damage = list[str](), list[str]()
    with_task = [one for one in files if one.task]
    tested = [run for run in (_tested(one, reader, left_out, damage) for one in with_task) if run is not None]
    subjects = [
        _choose([run for run in tested if run.subject == subject], reader, left_out)
        for subject in dict.fromkeys(run.subject for run in tested)
    ]
    return Gathered(tuple(subjects), without_task(files), tuple(left_out), tuple(damage))


def _tested(
    files: RunFiles, reader: Reader[R], left_out: list[str], damage: list[str]
) -> TestedRun[R] | None:
    """Return the run with its results, or None and a line that says why there are none."""
    paths, problems = files.paths, list[str]()
    results = read_or_note(paths.test_results, reader.results, problems)
    draw = reader.predictions
    predictions = read_or_note(paths.predictions, draw, problems) if draw else None
    subject = reader.subject(files, results)
    name = f"{subject} ({paths.run_id})"
    note = f"{name}: {'; '.join(problems)}"
    if results is None:
        left_out.append(note if paths.test_results.exists() else _why_no_result(name, files.history))
        return None
    damage.extend([note] if problems else [])
    written = paths.test_results.stat().st_mtime_ns
    settings = _settings(paths, (*_SAME_IN_EVERY_ROW, *reader.column_settings))
    return TestedRun(files, subject, results, predictions, written, settings)


def _why_no_result(name: str, history: History) -> str:
    if history.finished:
        return f"no result: {name}: it finished, but its test_results.json is not there"
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


def _choose(tested: list[TestedRun[R]], reader: Reader[R], left_out: list[str]) -> SubjectRuns[R]:
    """Choose among one subject's runs; name each that is left out, and why."""
    newest, *others = sorted(tested, key=lambda run: run.written, reverse=True)
    chosen = {newest.label: newest}
    older: list[TestedRun[R]] = []
    for run in others:
        if not reader.same_bars(run.results, newest.results):
            left_out.append(f"left out: {run.name}, scored on other bars than {newest.paths.run_id}")
        elif run.label in chosen:
            older.append(run)
            left_out.append(f"left out: {run.name}, older than {chosen[run.label].paths.run_id}")
        else:
            chosen[run.label] = run
    runs = tuple(chosen[label] for label in sorted(chosen))
    return SubjectRuns(newest.subject, newest, runs, tuple(older))
