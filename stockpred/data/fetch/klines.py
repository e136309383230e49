"""Read one of Binance's archives of bars: a zip with one CSV, a line per bar (a "kline").

The first six of its twelve columns are the bar's start, open, high, low, close and volume. The start is in
milliseconds since 1970 UTC, in spot archives from 2025 on in microseconds; some archives begin with a line of
names. Source: the README of the repository binance-public-data.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from stockpred.data.arrays import Ints
from stockpred.data.bars import COLUMNS, PRICES, TIME_TYPE
from stockpred.data.fetch.order import BarLength, FetchError

FIRST_MICROSECONDS = 10**14
"""A larger number of milliseconds would lie in the year 5138."""
CSV_COLUMNS = ("start", *PRICES, "volume")


def read(content: bytes, name: str, symbol: str, length: BarLength) -> pd.DataFrame:
    """Return an archive's bars in the bars format, in the archive's order; raise FetchError, naming it."""
    text = _unzipped(content, name)
    if looks_like_html(text):
        raise FetchError(f"{name} holds a web page in the place of bars")
    if not text.strip():
        return no_bars(symbol, length)
    try:
        rows = _table(text)
    except (pa.ArrowException, KeyError) as error:
        raise FetchError(f"{name} is no table of bars: {str(error).splitlines()[0]}") from error
    return _in_bars_format(rows, symbol, length)


def no_bars(symbol: str, length: BarLength) -> pd.DataFrame:
    """Return the table of an archive without bars."""
    empty = pd.DataFrame(columns=list(CSV_COLUMNS), dtype=np.float64).astype({"start": np.int64})
    return _in_bars_format(empty, symbol, length)


def checksum_in(content: bytes, name: str) -> str:
    """Return the sha256 that a .CHECKSUM file states: 64 hexadecimal digits before the archive's name."""
    found = re.match(rb"\s*([0-9a-fA-F]{64})\b", content)
    if found is None:
        what = "a web page" if looks_like_html(content) else "something else"
        raise FetchError(
            f"{name} is {what} in the place of a checksum",
            fix="a proxy or a login page may stand between: open the address in a browser",
        )
    return found[1].decode().lower()


def has_checksum(content: bytes, checksum: str) -> bool:
    return hashlib.sha256(content).hexdigest() == checksum


def looks_like_html(content: bytes) -> bool:
    return content[:200].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


def _unzipped(content: bytes, name: str) -> bytes:
    """Return the one file of an archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            (member,) = archive.namelist()
            return archive.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise FetchError(f"{name} is not a whole zip archive: {error}") from error
    except ValueError:
        raise FetchError(f"{name} holds not one file but several, or none") from None


def _table(text: bytes) -> pd.DataFrame:
    """Return the columns that are used; the line of names, where there is one, begins with no digit."""
    by_place = {f"f{place}": name for place, name in enumerate(CSV_COLUMNS)}
    types = {place: pa.int64() if name == "start" else pa.float64() for place, name in by_place.items()}
    table = pa_csv.read_csv(
        pa.BufferReader(text),
        pa_csv.ReadOptions(autogenerate_column_names=True, skip_rows=0 if text[:1].isdigit() else 1),
        convert_options=pa_csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=[], strings_can_be_null=False
        ),
    )
    columns: pd.DataFrame = table.to_pandas().rename(columns=by_place)
    return columns


def _in_bars_format(rows: pd.DataFrame, symbol: str, length: BarLength) -> pd.DataFrame:
    starts = pd.Series(pd.to_datetime(_nanoseconds(rows["start"].to_numpy()), utc=True)).astype(TIME_TYPE)
    bars = rows.assign(symbol=symbol, time=length.times_of(starts))
    return bars.loc[:, list(COLUMNS)]


def _nanoseconds(starts: Ints) -> Ints:
    """Return times in milliseconds or microseconds as nanoseconds."""
    return np.where(starts < FIRST_MICROSECONDS, starts * 10**6, starts * 10**3)
