"""The elements of a page: plain frozen data that the template lays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ABSENT = "\u2013"


@dataclass(frozen=True)
class Headline:
    """The head of a page: the result in one sentence, explanations, and whether the result is good news."""

    text: str
    details: tuple[str, ...]
    is_good: bool


@dataclass(frozen=True)
class Head:
    """The head of a column; columns of numbers are aligned right."""

    text: str
    is_number: bool = True


@dataclass(frozen=True)
class Cell:
    """A table cell; ``aside`` is set smaller and fainter beside the text, which may link to ``href``."""

    text: str
    aside: str = ""
    href: str = ""


@dataclass(frozen=True)
class TableRow:
    """A table row; ``is_model`` highlights the model's own row among those of its rivals."""

    cells: tuple[Cell, ...]
    is_model: bool = False


@dataclass(frozen=True)
class Table:
    """A table; with ``has_long_text`` its cells wrap and are aligned left."""

    heads: tuple[Head, ...]
    rows: tuple[TableRow, ...]
    has_long_text: bool = False


@dataclass(frozen=True)
class Picture:
    """An inline SVG with a title and a caption."""

    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Collapsible:
    """Text that is hidden behind its title until a click."""

    title: str
    text: str


@dataclass(frozen=True)
class Tile:
    """One key figure below the headline, with a line of context."""

    name: str
    value: str
    context: str


@dataclass(frozen=True)
class Alarm:
    """A warning above the headline."""

    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A titled part of the page; empty fields are not shown."""

    title: str
    note: str = ""
    tables: tuple[Table, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    collapsibles: tuple[Collapsible, ...] = ()


def table_row(cells: Sequence[str | Cell], *, is_model: bool = False) -> TableRow:
    return TableRow(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells), is_model)


def heads(*names: str, text_columns: Sequence[str] = ()) -> tuple[Head, ...]:
    """Return heads of number columns, except for those named in ``text_columns``."""
    return tuple(Head(name, is_number=name not in text_columns) for name in names)
