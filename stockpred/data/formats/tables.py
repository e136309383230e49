"""Read bars from one file: CSV or Parquet, whatever its columns are called, or npz (see ``npz``).

``survey`` looks at a file's head and says which symbols it offers; ``read`` brings the wanted ones in.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Collection, Mapping
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
from stockpred.data.formats import npz, parsing
from stockpred.data.formats.columns import ALIASES, NotBars, Offer

NEEDED = ("time", "open", "high", "low", "close")
CSV_ENDINGS = (".csv", ".tsv", ".csv.gz")
PARQUET_ENDINGS = (".parquet", ".pq")
ENDINGS = (*CSV_ENDINGS, *PARQUET_ENDINGS, npz.ENDING)
MAX_PROBLEMS = 5
UNREADABLE = (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError)


def is_table(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def survey(path: Path) -> Offer:
    """Return what ``path`` offers; raise NotBars for a file without bars or a broken one."""
    try:
        if path.name.lower().endswith(npz.ENDING):
            return npz.survey(path, stem(path))
        return _survey_parquet(path) if path.name.lower().endswith(PARQUET_ENDINGS) else _survey_csv(path)
    except PermissionError:
        raise NotBars("no permission to read it") from None
    except UNREADABLE as error:
        raise NotBars(f"cannot be read: {_first_line(error)}") from None


def read(offer: Offer, symbols: Collection[str]) -> pd.DataFrame:
    """Return symbol, time, open, high, low, close, volume, adj_close of ``symbols``, in the file's order.

    Raises UserError with file:line (row for Parquet and npz) for cells that cannot be read, and for a file
    that is damaged.
    """
    try:
        return _read(offer, symbols)
    except UNREADABLE as error:
        raise UserError(
            f"cannot be read: {_first_line(error)}",
            where=str(offer.path),
            fix="the file is damaged or not whole: copy or fetch it again (text must be UTF-8)",
        ) from error


def _read(offer: Offer, symbols: Collection[str]) -> pd.DataFrame:
    parts = []
    for group, columns in offer.columns.items():
        wanted = list(symbols) if offer.is_long else [group]
        if offer.is_long or group in symbols:
            parts.append(
                _typed(offer, columns, _fetch(offer, columns, wanted), None if offer.is_long else group)
            )
    return pd.concat(parts, ignore_index=True)


def stem(path: Path) -> str:
    """Return the file name without its endings: the symbol of a one-asset file."""
    lowered = path.name.lower()
    ending = next(ending for ending in sorted(ENDINGS, key=len)[::-1] if lowered.endswith(ending))
    return path.name[: -len(ending)]


def match_columns(header: Collection[str]) -> dict[str, str]:
    """Map THE column names to those of ``header``; raise NotBars where a needed one is missing."""
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


def _survey_parquet(path: Path) -> Offer:
    table = pa_dataset.dataset(path, format="parquet")
    columns = match_columns(table.schema.names)
    if "symbol" not in columns:
        return Offer(path, (stem(path),), {stem(path): columns}, is_long=False)
    symbols, num_blank = _held(table.to_table(columns=[columns["symbol"]]).column(0).cast(pa.string()))
    return Offer(path, symbols, {"": columns}, is_long=True, num_blank=num_blank)


def _survey_csv(path: Path) -> Offer:
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
    own = Offer(path, (stem(path),), {stem(path): columns}, False, header, 1, separator)
    if "symbol" not in columns:
        return own
    long = Offer(path, (), {"": columns}, True, header, 1, separator)
    # Rows of a wrong length are told only where the table is read: nobody may need it.
    symbols, num_blank = _held(_read_csv(long, [columns["symbol"]], is_strict=False).column(0))
    return replace(long, symbols=symbols, num_blank=num_blank)


def _survey_yfinance(path: Path, lines: list[list[str]], separator: str) -> Offer:
    """Understand yfinance's file: a line of fields, a line of tickers, and a line that says Date."""
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
    return Offer(path, tuple(columns), columns, False, tuple(header), 3 if has_date_line else 2, separator)


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


def _held(column: pa.ChunkedArray) -> tuple[tuple[str, ...], int]:
    """Return the distinct symbols of a column of text, and how many rows say none."""
    counted = {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}
    blank = [name for name in counted if not (name or "").strip()]
    return tuple(sorted(counted.keys() - blank)), sum(counted[name] for name in blank)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _fetch(offer: Offer, columns: Mapping[str, str], symbols: list[str]) -> pa.Table:
    """Return the raw columns; the column ``#`` holds each row's number in the file, counted from 0."""
    needed = list(dict.fromkeys(columns.values()))
    if offer.path.name.lower().endswith(npz.ENDING):
        table = npz.fetch(offer.path, needed)
        return table.append_column("#", pa.array(np.arange(len(table))))
    if offer.path.name.lower().endswith(PARQUET_ENDINGS):
        source = pa_dataset.dataset(offer.path, format="parquet")
        is_wanted = pc.field(columns["symbol"]).cast(pa.string()).isin(symbols) if offer.is_long else None
        table = source.to_table(columns=needed, filter=is_wanted)
        return table.append_column("#", pa.array(np.arange(len(table))))
    table = _read_csv(offer, needed)
    table = table.append_column("#", pa.array(np.arange(len(table))))
    if not offer.is_long:
        return table
    return table.filter(pc.is_in(table[columns["symbol"]], value_set=pa.array(symbols)))


def _read_csv(offer: Offer, needed: list[str], *, is_strict: bool = True) -> pa.Table:
    """Read columns as text; skip rows with too few or too many cells, or raise UserError with their lines."""
    problems: list[UserError] = []

    def refuse(row: pa_csv.InvalidRow) -> str:
        if is_strict and len(problems) < MAX_PROBLEMS and row.text.strip():
            what = f"{row.actual_columns} cells, the header has {row.expected_columns}"
            problems.append(UserError(what, where=f"{offer.path}:{_line_of(offer, text=row.text)}"))
        return "skip"

    table = pa_csv.read_csv(
        pa.input_stream(str(offer.path), compression="detect"),
        read_options=pa_csv.ReadOptions(
            skip_rows=offer.head_lines, column_names=list(offer.header), use_threads=False
        ),
        parse_options=pa_csv.ParseOptions(delimiter=offer.separator, invalid_row_handler=refuse),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(needed, pa.string()), include_columns=needed, strings_can_be_null=False
        ),
    )
    raise_all(problems)
    return table


def _line_of(offer: Offer, *, row: int | None = None, text: str = "") -> int:
    """Return the line of the ``row``-th good row, or of the row that reads ``text``. Only used for errors."""
    num_separators = len(offer.header) - 1
    seen = -1
    with _opened(offer.path) as file:
        for line, content in enumerate(file, start=1):
            content = content.rstrip("\r\n")
            if line <= offer.head_lines or not content.strip():
                continue
            if text and content == text:
                return line
            seen += num_separators == 0 or offer.separator in content
            if row is not None and seen == row:
                return line
    return offer.head_lines + 1


def _typed(offer: Offer, columns: Mapping[str, str], table: pa.Table, symbol: str | None) -> pd.DataFrame:
    rows = table["#"].to_numpy()
    problems: list[UserError] = []
    typed: dict[str, object] = {}
    typed["symbol"] = symbol if symbol is not None else _symbols(table[columns["symbol"]])
    typed["time"], bad = _times(offer, table[columns["time"]])
    problems += _problems(offer, table, columns["time"], rows, bad, "a date or time")
    for name in ("open", "high", "low", "close", "volume", "adj_close"):
        if name not in columns:
            typed[name] = np.full(len(rows), np.nan)
            continue
        typed[name], bad = parsing.numbers(table[columns[name]])
        problems += _problems(offer, table, columns[name], rows, bad, "a usable number")
    # A file of closes only names its close four times.
    raise_all(list({str(problem): problem for problem in problems}.values())[:MAX_PROBLEMS])
    return pd.DataFrame(typed, index=range(len(rows)))


def _symbols(column: pa.ChunkedArray) -> pd.Categorical:
    return pd.Categorical(column.cast(pa.string()).to_pandas())


def _times(offer: Offer, column: pa.ChunkedArray) -> tuple[pd.Series, parsing.Rows]:
    try:
        return parsing.times(column)
    except parsing.AmbiguousDates:
        raise UserError(
            "day and month cannot be told apart: no date has a number above 12",
            where=str(offer.path),
            fix="write dates as YYYY-MM-DD",
        ) from None


def _problems(
    offer: Offer, table: pa.Table, column: str, rows: parsing.Rows, bad: parsing.Rows, meant: str
) -> list[UserError]:
    shown = column.partition("\n")[0] or "(first)"
    place: Callable[[int], str] = lambda row: (  # noqa: E731
        f"{offer.path}:{_line_of(offer, row=row)}" if offer.header else f"{offer.path} row {row + 1}"
    )
    return [
        UserError(
            f"{str(table[column][int(at)])!r} in column {shown!r} is not {meant}", where=place(int(rows[at]))
        )
        for at in bad[:MAX_PROBLEMS]
    ]
