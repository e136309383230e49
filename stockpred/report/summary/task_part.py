"""What a task adds to a summary of its runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from stockpred.config import registry
from stockpred.report.elements import Headline, Section, Tile
from stockpred.report.summary.gather import Gathered, R, Reader


@dataclass(frozen=True)
class TextTable:
    """Columns for the terminal: the first ``num_text_columns`` hold text, the others numbers.

    An empty line stands between ``blocks`` of rows.
    """

    heads: tuple[str, ...]
    blocks: tuple[tuple[tuple[str, ...], ...], ...]
    num_text_columns: int


@dataclass(frozen=True)
class CsvTable:
    """Rows in full precision; None is an empty cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class TaskSummary:
    """What runs of a task show together; ``cautions`` are printed below the headline."""

    headline: Headline
    cautions: tuple[str, ...]
    table: TextTable
    csv: CsvTable
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class TaskPart(Generic[R]):
    """``tasks/TASK/summary/build.py`` holds one as ``PART``.

    ``summarise`` takes the gathered runs and the folder of the page, to which links are relative.
    """

    reader: Reader[R]
    summarise: Callable[[Gathered[R], Path], TaskSummary]


def of(task: str) -> TaskPart[Any]:
    """Return a task's part of the summary; raise UserError for a task that does not exist."""
    part: TaskPart[Any] = registry.load_task(task, "summary.build").PART
    return part
