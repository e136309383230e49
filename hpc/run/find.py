"""Find the workspace and its runs: all of them, or those that a person names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hpc.base import records
from hpc.base.errors import UserError
from hpc.base.text import suggestion
from hpc.run.history import History, Ledger
from hpc.run.paths import LAYOUT, RUNS, RunPaths

OLDER = "this run was made by an older version"
OLDER_FIX = "submit its case again: that begins a new run"


@dataclass(frozen=True)
class Run:
    """One run directory with its history. A run of an older version can be looked at, not continued."""

    paths: RunPaths
    history: History
    is_older: bool = False

    @property
    def name(self) -> str:
        return f"{self.paths.case}/{self.paths.run_id}"

    @property
    def job_names(self) -> tuple[str, ...]:
        """What Slurm calls the jobs of this run: those of its own, and the array that it is a task of."""
        array = self.history.array
        return (self.paths.job_name, *([self.paths.array(array).job_name] if array else []))


def find_root(start: Path | None = None) -> Path:
    """Return the nearest directory at or above ``start`` that holds ``cases/``."""
    here = (start or Path.cwd()).absolute()
    chosen = os.environ.get("HPC_ROOT")
    candidates = [Path(chosen).absolute()] if chosen else [here, *here.parents]
    for candidate in candidates:
        if (candidate / "cases").is_dir():
            return candidate
    raise UserError(
        "there is no `cases` directory here or above",
        where=chosen or str(here),
        fix="go to the project's directory, or set HPC_ROOT to it",
    )


def open_run(paths: RunPaths) -> Run:
    plan = records.read_json_if_any(paths.plan)
    is_older = plan is not None and plan.get("layout", 1) < LAYOUT
    return Run(paths, Ledger(paths.events).history(), is_older)


def refuse_older(run: Run) -> None:
    """Raise UserError for a run that an older version of this program made."""
    if run.is_older:
        raise UserError(OLDER, where=str(run.paths.root), fix=OLDER_FIX)


def all_runs(root: Path) -> list[Run]:
    """Return every run that was submitted, the newest last."""
    found = [path.parent for path in (root / RUNS).glob("*/*/events.jsonl")]
    return [open_run(RunPaths(path)) for path in sorted(found, key=_last_change)]


def find_run(root: Path, wanted: str | None, only: str | None = None) -> Run:
    """Return the newest of the runs that are meant."""
    return matching(root, wanted, only)[-1]


def matching(root: Path, wanted: str | None, only: str | None = None) -> list[Run]:
    """Return the runs of a case or an array, or those that (the begin of) a run's name means; newest last.

    ``only`` keeps those with these names in their arrays, such as ``first,second``.
    """
    runs = all_runs(root)
    if not runs:
        raise UserError("there are no runs yet", where=str(root / RUNS), fix="start one: hpc submit CASE")
    found = [run for run in runs if wanted is None or _is_named(run, wanted)]
    if not found:
        cases = {run.paths.case for run in runs}
        fix = f"{suggestion(wanted or '', cases)} (a case that was not submitted yet has no run)"
        raise UserError(f"no run is called {wanted!r}", fix=fix)
    return _members(found, split_names(only)) if only else found


def split_names(text: str | None) -> tuple[str, ...]:
    """Return the names in ``first,second`` or ``first second``, each once."""
    return tuple(dict.fromkeys((text or "").replace(",", " ").split()))


def _members(found: list[Run], names: tuple[str, ...]) -> list[Run]:
    members = [(records.read_json_if_any(run.paths.plan) or {}).get("member") for run in found]
    for name in names:
        if name not in members:
            known = [member for member in members if member]
            raise UserError(
                f"no run is of {name!r}",
                where="command line",
                fix=suggestion(name, known) if known else "leave --only out: these runs are no array",
            )
    return [run for run, member in zip(found, members, strict=True) if member in names]


def _last_change(path: Path) -> float:
    return (path / "events.jsonl").stat().st_mtime


def _is_named(run: Run, wanted: str) -> bool:
    names = (run.paths.case, run.name, str(run.paths.root), run.history.array)
    return wanted in names or run.paths.run_id.startswith(wanted)
