"""What a task adds to the report of its runs, as page elements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hpc.base.errors import UserError
from stockpred.config import registry
from stockpred.config.registry import TASKS
from stockpred.config.schema import OLDER
from stockpred.report.elements import Headline, Picture, Section, Table, Tile
from stockpred.report.runfiles import RunFiles
from stockpred.score.metrics import EvaluatedModel

T = TypeVar("T")


@dataclass(frozen=True)
class TestedPart:
    """What the test showed: the head of the page and its first sections."""

    evaluated: EvaluatedModel
    headline: Headline
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class TaskReport:
    """A task's own part of a report; ``notes`` name its files that are there but cannot be read.

    ``tasks/TASK/report.py`` makes it: ``read(files: RunFiles) -> TaskReport``.
    """

    tested: TestedPart | None = None
    training_pictures: tuple[Picture, ...] = ()
    model_facts: tuple[tuple[str, str], ...] = ()
    data_tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


def of(files: RunFiles) -> TaskReport:
    """Return the report of the run's task; one with a note alone where the task is not known."""
    if files.task in registry.names(TASKS):
        task_report: TaskReport = registry.load_task(str(files.task), "report").read(files)
        return task_report
    if files.is_of_older_version:
        return TaskReport(notes=(f"{OLDER}: its test results are not shown",))
    if not files.paths.test_results.exists():
        return TaskReport()
    why = f"there is no task {files.task!r}" if files.task else "config.yaml names no task"
    return TaskReport(notes=(f"left out: test_results.json, because {why}",))


def read_or_note(path: Path, parse: Callable[[Path], T], notes: list[str]) -> T | None:
    """Return what the file holds; note a file that is damaged or of another version, and leave it out."""
    if not path.exists():
        return None
    try:
        return parse(path)
    except (OSError, ValueError, KeyError, TypeError, UserError):
        notes.append(f"left out: {path.name}, which is damaged or of another version")
        return None
