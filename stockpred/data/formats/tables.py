"""Read bars from one file: CSV or Parquet, whatever its columns are called, or npz (see ``npz``).

``survey`` finds out from a file's head which symbols it has; ``read`` returns the bars of some of them.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.dataset as pa_dataset

from hpc.base.errors import UserError, raise_all
from stockpred.data.arrays import Ints
from stockpred.data.formats import npz, parsing
from stockpred.data.formats.columns import ALIASES, BarFile, NotBars

NEEDED = ("time", "open", "high", "low", "close")
CSV_ENDINGS = (".csv", ".tsv", ".csv.gz")
PARQUET_ENDINGS = (".parquet", ".pq")
ENDINGS = (*CSV_ENDINGS, *PARQUET_ENDINGS, npz.ENDING)
MAX_PROBLEMS = 5
UNREADABLE = (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError)


def is_table(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def survey(path: Path) -> BarFile:
    """Return which bars ``path`` has; raise NotBars for a file without bars or a broken one."""
    try:
        if path.name.lower().endswith(npz.ENDING):
            return npz.survey(path, stem(path))
        return _survey_parquet(path) if path.name.lower().endswith(PARQUET_ENDINGS) else _survey_csv(path)
    except PermissionError:
        raise NotBars("no permission to read it") from None
    except UNREADABLE as error:
        raise NotBars(f"cannot be read: {_first_line(error)}") from None


def read(bar_file: BarFile, symbols: Collection[str]) -> pd.DataFrame:
    """Return symbol, time, open, high, low, close, volume, adj_close of ``symbols``, in the file's order.

    Raises UserError with file:line (row for Parquet and npz) for cells that cannot be read, and for a file
    that is damaged.
    """
    try:
        return _read(bar_file, symbols)
    except UNREADABLE as error:
        raise UserError(
            f"cannot be read: {_first_line(error)}",
            where=str(bar_file.path),
            fix="the file is damaged or not whole: copy or fetch it again (text must be UTF-8)",
        ) from error


def _read(bar_file: BarFile, symbols: Collection[str]) -> pd.DataFrame:
    if bar_file.is_long:
        (columns,) = bar_file.columns.values()
        return _typed(bar_file, columns, _fetch(bar_file, columns, list(symbols)), None)
    parts = [
        _typed(bar_file, columns, _fetch(bar_file, columns, [symbol]), symbol)
        for symbol, columns in bar_file.columns.items()
        if symbol in symbols
    ]
    return pd.concat(parts, ignore_index=True)


def stem(path: Path) -> str:
    """Return the file name without its endings: the symbol of a one-asset file."""
    lowered = path.name.lower()
    ending = next(ending for ending in sorted(ENDINGS, key=len)[::-1] if lowered.endswith(ending))
    return path.name[: -len(ending)]


def match_columns(header: Collection[str]) -> dict[str, str]:
    """Map our column names to those of ``header``; raise NotBars where a needed one is missing."""
    plain: dict[str, str] = {}
    for column in header:
        plain.setdefault(re.sub(r"[^a-z0-9_]+", "_", column.strip().lower()).strip("_"), column)
    found = {
        name: next(plain[alias] for alias in aliases if alias in plain)
        for name, aliases in ALIASES.items()
        if any(alias in plain for alias in aliases)
    }
    if "close" not in found and "price" in plain:
        found["close"] = plain["price"]
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise NotBars(f"it has no column for {', '.join(missing)}")
    return found


def _survey_parquet(path: Path) -> BarFile:
    table = pa_dataset.dataset(path, format="parquet")
    columns = match_columns(table.schema.names)
    if "symbol" not in columns:
        return BarFile(path, (stem(path),), {stem(path): columns}, is_long=False)
    symbols, num_blank = _distinct_symbols(
        table.to_table(columns=[columns["symbol"]]).column(0).cast(pa.string())
    )
    return BarFile(path, symbols, {"": columns}, is_long=True, num_blank=num_blank)


def _survey_csv(path: Path) -> BarFile:
    head = _head(path)
    if not head:
        raise NotBars("it is empty")
    separator = max(",;\t|", key=head[0].count)
    lines = [[cell.strip().strip('"') for cell in line.split(separator)] for line in head]
    if (
        len(lines) > 1
        and lines[0][0] in ("Price", "")
        and lines[1][0] in ("Ticker", "")
        and any(lines[1][1:])
    ):
        return _survey_yfinance(path, lines, separator)
    header = tuple(_unique(lines[0]))
    columns = match_columns(header)
    if len(lines) < 2:
        raise NotBars("it has a header and no rows")
    own = BarFile(path, (stem(path),), {stem(path): columns}, False, header, 1, separator)
    if "symbol" not in columns:
        return own
    long = BarFile(path, (), {"": columns}, True, header, 1, separator)
    # Rows of a wrong length are reported only when the table is read: nobody may need it.
    symbols, num_blank = _distinct_symbols(_read_csv(long, [columns["symbol"]], is_strict=False).column(0))
    return replace(long, symbols=symbols, num_blank=num_blank)


def _survey_yfinance(path: Path, lines: list[list[str]], separator: str) -> BarFile:
    """Read the head of yfinance's file: a line of fields, one of tickers, and one that begins with Date."""
    fields, tickers = lines[0], lines[1]
    header = ["Date", *(f"{field}\n{ticker}" for field, ticker in zip(fields[1:], tickers[1:], strict=False))]
    columns: dict[str, dict[str, str]] = {}
    for ticker in dict.fromkeys(tickers[1:]):
        named = {
            field: f"{field}\n{ticker}"
            for field, own in zip(fields[1:], tickers[1:], strict=False)
            if own == ticker
        }
        matched = match_columns(["Date", *named])
        columns[ticker] = {name: named.get(column, column) for name, column in matched.items()}
    has_date_line = len(lines) > 2 and lines[2][0] in ("Date", "Datetime")
    return BarFile(path, tuple(columns), columns, False, tuple(header), 3 if has_date_line else 2, separator)


def _head(path: Path, lines: int = 4) -> list[str]:
    try:
        with _opened(path) as file:
            head = [file.readline().rstrip("\r\n") for _ in range(lines)]
    except UnicodeDecodeError:
        raise NotBars("it is not text in UTF-8") from None
    while head and not head[-1].strip():
        head.pop()
    return head


def _opened(path: Path) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return cast(IO[str], gzip.open(path, "rt", encoding="utf-8-sig"))
    return path.open(encoding="utf-8-sig")


def _unique(header: list[str]) -> list[str]:
    """Give a repeated column its own name, so that the first of them is found."""
    return [name if name not in header[:place] else f"{name}\n{place}" for place, name in enumerate(header)]


def _distinct_symbols(column: pa.ChunkedArray) -> tuple[tuple[str, ...], int]:
    """Return the distinct symbols of a column of text, and how many rows have none."""
    counted = {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}
    blank = [name for name in counted if not (name or "").strip()]
    return tuple(sorted(counted.keys() - blank)), sum(counted[name] for name in blank)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _fetch(bar_file: BarFile, columns: Mapping[str, str], symbols: list[str]) -> pa.Table:
    """Return the raw columns; the column ``#`` holds each row's number in the file, counted from 0."""
    needed = list(dict.fromkeys(columns.values()))
    if bar_file.path.name.lower().endswith(npz.ENDING):
        table = npz.fetch(bar_file.path, needed)
        return table.append_column("#", pa.array(np.arange(len(table))))
    if bar_file.path.name.lower().endswith(PARQUET_ENDINGS):
        source = pa_dataset.dataset(bar_file.path, format="parquet")
        is_wanted = pc.field(columns["symbol"]).cast(pa.string()).isin(symbols) if bar_file.is_long else None
        table = source.to_table(columns=needed, filter=is_wanted)
        return table.append_column("#", pa.array(np.arange(len(table))))
    table = _read_csv(bar_file, needed)
    table = table.append_column("#", pa.array(np.arange(len(table))))
    if not bar_file.is_long:
        return table
    return table.filter(pc.is_in(table[columns["symbol"]], value_set=pa.array(symbols)))


def _read_csv(bar_file: BarFile, needed: list[str], *, is_strict: bool = True) -> pa.Table:
    """Read columns as text; skip rows with too few or too many cells, or raise UserError with their lines."""
    problems: list[UserError] = []

    def refuse(row: pa_csv.InvalidRow) -> str:
        if is_strict and len(problems) < MAX_PROBLEMS and row.text.strip():
            what = f"{row.actual_columns} cells, the header has {row.expected_columns}"
            problems.append(UserError(what, where=f"{bar_file.path}:{_line_of(bar_file, text=row.text)}"))
        return "skip"

    table = pa_csv.read_csv(
        pa.input_stream(str(bar_file.path), compression="detect"),
        read_options=pa_csv.ReadOptions(
            skip_rows=bar_file.head_lines, column_names=list(bar_file.header), use_threads=False
        ),
        parse_options=pa_csv.ParseOptions(delimiter=bar_file.separator, invalid_row_handler=refuse),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(needed, pa.string()), include_columns=needed, strings_can_be_null=False
        ),
    )
    raise_all(problems)
    return table


def _line_of(bar_file: BarFile, *, row: int | None = None, text: str = "") -> int:
    """Return the line of the ``row``-th good row, or of the row that reads ``text``. Only used for errors."""
    num_separators = len(bar_file.header) - 1
    seen = -1
    with _opened(bar_file.path) as file:
        for line, content in enumerate(file, start=1):
            content = content.rstrip("\r\n")
            if line <= bar_file.head_lines or not content.strip():
                continue
            if text and content == text:
                return line
            seen += num_separators == 0 or bar_file.separator in content
            if row is not None and seen == row:
                return line
    return bar_file.head_lines + 1


def _typed(
    bar_file: BarFile, columns: Mapping[str, str], table: pa.Table, symbol: str | None
) -> pd.DataFrame:
    """Convert raw columns to numbers and times; ``symbol`` is None where a column holds it."""
    rows = table["#"].to_numpy()
    problems: list[UserError] = []
    typed: dict[str, object] = {}
    typed["symbol"] = symbol if symbol is not None else _symbols(table[columns["symbol"]])
    typed["time"], bad = _times(bar_file, table[columns["time"]])
    problems += _problems(bar_file, table, columns["time"], rows, bad, "a date or time")
    for name in ("open", "high", "low", "close", "volume", "adj_close"):
        if name not in columns:
            typed[name] = np.full(len(rows), np.nan)
            continue
        typed[name], bad = parsing.numbers(table[columns[name]])
        problems += _problems(bar_file, table, columns[name], rows, bad, "a usable number")
    # The close of a file with closes only is read four times; its errors are reported once.
    raise_all(list({str(problem): problem for problem in problems}.values())[:MAX_PROBLEMS])
    return pd.DataFrame(typed, index=range(len(rows)))


def _symbols(column: pa.ChunkedArray) -> pd.Categorical:
    return pd.Categorical(column.cast(pa.string()).to_pandas())


def _times(bar_file: BarFile, column: pa.ChunkedArray) -> tuple[pd.Series, Ints]:
    try:
        return parsing.times(column)
    except parsing.AmbiguousDates:
        raise UserError(
            "day and month cannot be told apart: no date has a number above 12",
            where=str(bar_file.path),
            fix="write dates as YYYY-MM-DD",
        ) from None


def _problems(
    bar_file: BarFile, table: pa.Table, column: str, rows: Ints, bad: Ints, meant: str
) -> list[UserError]:
    """Return an error for each of the first ``bad`` cells; ``rows`` are their rows' numbers in the file."""
    shown = column.partition("\n")[0] or "(first)"
    return [
        UserError(
            f"{str(table[column][int(at)])!r} in column {shown!r} is not {meant}",
            where=_place(bar_file, int(rows[at])),
        )
        for at in bad[:MAX_PROBLEMS]
    ]


def _place(bar_file: BarFile, row: int) -> str:
    """Return file:line of a CSV's row, the number of the row of a binary file."""
    if bar_file.header:
        return f"{bar_file.path}:{_line_of(bar_file, row=row)}"
    return f"{bar_file.path} row {row + 1}"
