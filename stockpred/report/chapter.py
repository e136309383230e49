"""What one way of learning adds to the report, as plain pieces that the page lays out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hpc.errors import UserError
from stockpred import discover
from stockpred.report.parts import Picture, Section, Table, Tile, Verdict
from stockpred.report.runfiles import RunFiles
from stockpred.results.evaluated import Evaluated

CHAPTERS = "stockpred.report.chapters"
T = TypeVar("T")


@dataclass(frozen=True)
class Tested:
    """What the test showed: the head of the page and its first sections."""

    evaluated: Evaluated
    verdict: Verdict
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Chapter:
    """A learner's own part of a report; ``notes`` name its files that are there but cannot be read.

    ``report/chapters/LEARNER.py`` makes it: ``read(files: RunFiles) -> Chapter``.
    """

    tested: Tested | None = None
    training_pictures: tuple[Picture, ...] = ()
    model_facts: tuple[tuple[str, str], ...] = ()
    data_tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


def of(files: RunFiles) -> Chapter:
    """Return the chapter of the run's learner; an empty one, with a note, where there is none."""
    if files.learner in discover.names(CHAPTERS):
        chapter: Chapter = discover.load(CHAPTERS, str(files.learner)).read(files)
        return chapter
    if not files.paths.test_results.exists():
        return Chapter()
    whose = repr(files.learner) if files.learner else "that config.yaml does not name"
    return Chapter(notes=(f"left out: test_results.json, of a learner {whose}: there is no chapter for it",))


def read_or_note(path: Path, parse: Callable[[Path], T], notes: list[str]) -> T | None:
    """Return what the file holds; note a file that is damaged or of another version, and leave it out."""
    if not path.exists():
        return None
    try:
        return parse(path)
    except (OSError, ValueError, KeyError, TypeError, UserError):
        notes.append(f"left out: {path.name}, which is damaged or of another version")
        return None
