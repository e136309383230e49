"""What a task adds to the report of its runs, as plain pieces that the page lays out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hpc.base.errors import UserError
from stockpred.config import registry
from stockpred.config.registry import TASKS
from stockpred.report.elements import Picture, Section, Table, Tile, Verdict
from stockpred.report.runfiles import RunFiles
from stockpred.score.metrics import EvaluatedModel

T = TypeVar("T")


@dataclass(frozen=True)
class Tested:
    """What the test showed: the head of the page and its first sections."""

    evaluated: EvaluatedModel
    verdict: Verdict
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Chapter:
    """A task's own part of a report; ``notes`` name its files that are there but cannot be read.

    ``tasks/TASK/report.py`` makes it: ``read(files: RunFiles) -> Chapter``.
    """

    tested: Tested | None = None
    training_pictures: tuple[Picture, ...] = ()
    model_facts: tuple[tuple[str, str], ...] = ()
    data_tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


def of(files: RunFiles) -> Chapter:
    """Return the chapter of the run's task; an empty one, with a note, where there is none."""
    if files.task in registry.names(TASKS):
        chapter: Chapter = registry.load_task(str(files.task), "report").read(files)
        return chapter
    if not files.paths.test_results.exists():
        return Chapter()
    whose = f"of a task {files.task!r}" if files.task else "made by an older version, which named no task"
    return Chapter(notes=(f"left out: test_results.json, {whose}: there is no chapter for it",))


def read_or_note(path: Path, parse: Callable[[Path], T], notes: list[str]) -> T | None:
    """Return what the file holds; note a file that is damaged or of another version, and leave it out."""
    if not path.exists():
        return None
    try:
        return parse(path)
    except (OSError, ValueError, KeyError, TypeError, UserError):
        notes.append(f"left out: {path.name}, which is damaged or of another version")
        return None
