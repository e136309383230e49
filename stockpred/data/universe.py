"""The assets of a case: its ``universe.csv``, read as text so that ON, TRUE, NA and 000660 stay tickers."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from hpc.base.errors import UserError, raise_all
from hpc.base.text import suggestion


@dataclass(frozen=True)
class Asset:
    """One asset and its symbol at each source; empty where a source does not have it."""

    symbol: str
    name: str
    category: str
    yahoo: str = ""
    binance: str = ""
    files: str = ""


@dataclass(frozen=True)
class Universe:
    """The assets in the order of the file: an asset's place is its index everywhere."""

    path: Path
    assets: tuple[Asset, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(asset.symbol for asset in self.assets)

    @property
    def categories(self) -> tuple[str, ...]:
        """Return the categories in alphabetic order."""
        return tuple(sorted({asset.category for asset in self.assets}))

    def restricted_to(self, symbol: str | None) -> Universe:
        """Return the universe of one of its assets, or itself; raise UserError for an unknown symbol."""
        if symbol is None:
            return self
        chosen = tuple(asset for asset in self.assets if asset.symbol == symbol)
        if not chosen:
            what = f"{symbol!r} is not an asset of {self.path}"
            raise UserError(what, where="data.symbol", fix=suggestion(symbol, self.symbols))
        return Universe(self.path, chosen)

    def only(self, symbols: Collection[str], *, where: str) -> Universe:
        """Return the universe of some of its assets, or itself where none are named.

        Raises UserError for all unknown symbols at once; ``where`` is what they were given by.
        """
        unknown = [symbol for symbol in dict.fromkeys(symbols) if symbol not in self.symbols]
        raise_all(
            [
                UserError(
                    f"{symbol!r} is not an asset of {self.path}",
                    where=where,
                    fix=suggestion(symbol, self.symbols),
                )
                for symbol in unknown
            ]
        )
        kept = tuple(asset for asset in self.assets if not symbols or asset.symbol in symbols)
        return Universe(self.path, kept)


COLUMNS = tuple(field.name for field in fields(Asset))
REQUIRED = ("symbol", "name", "category")


def read(path: Path) -> Universe:
    """Read ``path``; raise UserError with file:line for every wrong row."""
    rows = list(_rows(path))
    if not rows:
        raise UserError("the universe is empty", where=str(path), fix=f"write a header: {','.join(COLUMNS)}")
    (line, header), *body = rows
    raise_all(_header_problems(path, line, header))
    if not body:
        raise UserError("the universe has no assets", where=f"{path}:{line}", fix="add a row per asset")
    problems = list(_row_problems(path, header, body))
    raise_all(problems)
    return Universe(path, tuple(Asset(**dict(zip(header, row, strict=True))) for _, row in body))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, stripped cells) of every row that is not blank."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, [cell.strip() for cell in row]
    except FileNotFoundError:
        raise UserError("there is no universe file", where=str(path), fix="check data.universe") from None
    except OSError as error:
        raise UserError(f"cannot read the universe: {error.strerror}", where=str(path)) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"the universe is not a CSV file in UTF-8: {error}", where=str(path)) from error


def _header_problems(path: Path, line: int, header: list[str]) -> list[UserError]:
    where = f"{path}:{line}"
    unknown = [
        UserError(f"unknown column {column!r}", where=where, fix=suggestion(column, COLUMNS))
        for column in header
        if column not in COLUMNS
    ]
    missing = [
        UserError(f"column {column!r} is missing", where=where, fix=f"the header is {','.join(COLUMNS)}")
        for column in REQUIRED
        if column not in header
    ]
    repeated = sorted({column for column in header if header.count(column) > 1})
    twice = [UserError(f"column {column!r} stands twice", where=where) for column in repeated]
    return unknown + missing + twice


def _row_problems(path: Path, header: list[str], body: list[tuple[int, list[str]]]) -> Iterator[UserError]:
    first_line: dict[str, int] = {}
    for line, row in body:
        where = f"{path}:{line}"
        if len(row) != len(header):
            yield UserError(
                f"{len(row)} cells, the header has {len(header)}",
                where=where,
                fix="quote a cell with a comma",
            )
            continue
        cells = dict(zip(header, row, strict=True))
        yield from _cell_problems(where, cells)
        symbol = cells["symbol"]
        if symbol and symbol in first_line:
            yield UserError(
                f"{symbol!r} stands twice, first in line {first_line[symbol]}", where=where, fix="remove one"
            )
        first_line.setdefault(symbol, line)


def _cell_problems(where: str, cells: dict[str, str]) -> Iterator[UserError]:
    for column in REQUIRED:
        if not cells[column]:
            yield UserError(f"{column} is empty", where=where, fix=f"every asset needs a {column}")
    if cells["category"] and not re.fullmatch(r"[a-z][a-z0-9_]*", cells["category"]):
        yield UserError(
            f"category {cells['category']!r} is not a plain word",
            where=where,
            fix="write it in small letters, such as us_equity",
        )
