"""What a page is made of: plain frozen pieces that the template lays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ABSENT = "\u2013"


@dataclass(frozen=True)
class Verdict:
    """The head of a report: one sentence, what follows from it, and whether it is good news."""

    headline: str
    details: tuple[str, ...]
    is_good: bool


@dataclass(frozen=True)
class Head:
    """A column's name; numbers are aligned right."""

    text: str
    is_number: bool = True


@dataclass(frozen=True)
class Cell:
    """A table cell; ``aside`` is set smaller and fainter beside the text, which may link to ``href``."""

    text: str
    aside: str = ""
    href: str = ""


@dataclass(frozen=True)
class Line:
    """A table row; the model's own stands out."""

    cells: tuple[Cell, ...]
    is_ours: bool = False


@dataclass(frozen=True)
class Table:
    """Heads and lines; a table of words wraps its cells and aligns them left."""

    heads: tuple[Head, ...]
    rows: tuple[Line, ...]
    is_words: bool = False


@dataclass(frozen=True)
class Picture:
    """An inline SVG with its title and a sentence."""

    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Fold:
    """Text that opens on a click."""

    summary: str
    text: str


@dataclass(frozen=True)
class Tile:
    """A figure that is read at a glance."""

    name: str
    value: str
    context: str


@dataclass(frozen=True)
class Alarm:
    """Something a reader must know before any figure."""

    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A titled part of the page; whatever is empty is not shown."""

    title: str
    note: str = ""
    tables: tuple[Table, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    figures: tuple[Picture, ...] = ()
    folds: tuple[Fold, ...] = ()


def line(cells: Sequence[str | Cell], *, is_ours: bool = False) -> Line:
    return Line(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells), is_ours)


def heads(*texts: str, words: Sequence[str] = ()) -> tuple[Head, ...]:
    """Return heads of number columns, except for those named in ``words``."""
    return tuple(Head(text, is_number=text not in words) for text in texts)
