"""Turn a column of a file into numbers or times, and find the rows that cannot be read.

Each function takes an Arrow column and returns (values, unreadable rows); a row is counted from 0.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stockpred.data.arrays import Floats, Ints
from stockpred.data.bars import TIME_TYPE

UNKNOWN = ("", "nan", "na", "n/a", "null", "none", "-")
LARGEST = 1e20
EPOCH_DIGITS = {10: "s", 13: "ms", 16: "us", 19: "ns"}
WRITTEN_FORMATS = ("%b %d, %Y", "%d %b %Y", "%d-%b-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y/%m/%d %H:%M:%S")
_NUMERIC_DATE = re.compile(r"(\d{1,2})([-/.])(\d{1,2})[-/.](\d{4})( .*)?")
_ZONE = re.compile(r"(Z|UTC|[+-]\d{2}:?\d{2})$")


class AmbiguousDates(ValueError):
    """Raised where day and month cannot be distinguished: dates as 03/04/2020, and no number above 12."""


def numbers(column: pa.ChunkedArray) -> tuple[Floats, Ints]:
    """Read numbers; unknown ones become NaN, infinite or absurdly large ones are unreadable."""
    if _is_text(column.type):
        values, bad = _numbers_of_text(column)
    elif pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
        return np.full(len(column), np.nan), np.arange(len(column), dtype=np.int64)
    else:
        values = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy()
        bad = np.zeros(len(values), bool)
    too_large = np.isinf(values) | (np.abs(values) > LARGEST)
    return values, np.flatnonzero(bad | too_large)


def times(column: pa.ChunkedArray) -> tuple[pd.Series, Ints]:
    """Read times as UTC; dates at local midnight keep their date. Raises AmbiguousDates."""
    if _is_text(column.type):
        encoded = pa.concat_arrays(column.cast(pa.string()).chunks or [pa.array([], pa.string())])
        encoded = encoded.dictionary_encode()
        distinct = pd.Series(encoded.dictionary.to_pylist(), dtype=object).str.strip()
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        values = _times_of_text(distinct).astype(TIME_TYPE).reindex(codes).reset_index(drop=True)
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        known = np.nan_to_num(pc.fill_null(column, 0).to_numpy())
        values = _times_of_numbers(pd.Series(known).astype(np.int64))
    elif pa.types.is_temporal(column.type):
        values = _times_of_timestamps(column)
    else:
        values = pd.Series(pd.NaT, index=range(len(column)), dtype=TIME_TYPE)
    return values, np.flatnonzero(values.isna().to_numpy())


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _numbers_of_text(column: pa.ChunkedArray) -> tuple[Floats, npt.NDArray[np.bool_]]:
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    is_unknown = pc.is_in(pc.utf8_lower(text), value_set=pa.array(UNKNOWN))
    known = pc.if_else(is_unknown, None, text)
    try:
        return pc.fill_null(known.cast(pa.float64()), np.nan).to_numpy(), np.zeros(len(text), bool)
    except pa.ArrowInvalid:
        return _numbers_with_separators(known.to_pandas())


def _numbers_with_separators(text: pd.Series) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Read 1,234.5 or 1.234,5, whichever the whole column is written in; 1.2.3 is unreadable."""
    text = text.astype(object)
    english = _matches(text, r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
    german = _matches(text, r"[-+]?(\d+|\d{1,3}(\.\d{3})+),\d+")
    plain = text.where(~english, text.str.replace(",", ""))
    if (german & ~english).any():
        grouped = german | _matches(text, r"[-+]?\d{1,3}(\.\d{3})+")
        plain = text.where(~grouped, text.str.replace(".", "", regex=False).str.replace(",", "."))
    values = pd.to_numeric(plain, errors="coerce")
    return values.to_numpy(np.float64), (text.notna() & values.isna()).to_numpy(bool)


def _matches(text: pd.Series, pattern: str) -> pd.Series:
    return text.str.fullmatch(pattern).eq(True)


def _times_of_timestamps(column: pa.ChunkedArray) -> pd.Series:
    zone = getattr(column.type, "tz", None)
    values = pd.Series(pd.to_datetime(column.cast(pa.timestamp("ns", tz=zone)).to_pandas(), utc=True))
    if zone in (None, "UTC"):
        return values.astype(TIME_TYPE)
    local = values.dt.tz_convert(zone).dt.tz_localize(None)
    return _whole_days_or(values, local)


def _times_of_numbers(values: pd.Series) -> pd.Series:
    """Read 20240131 as a date, longer numbers as seconds, ms, us or ns since 1970; shorter are no times."""
    digits = values.abs().astype(str).str.len()
    longest = int(digits.max()) if len(digits) else 0
    if longest < 8:
        return pd.Series(pd.NaT, index=values.index).astype(TIME_TYPE)
    if longest == 8:
        return _read(values.astype(str), "%Y%m%d")
    unit = next((unit for limit, unit in EPOCH_DIGITS.items() if longest <= limit), "ns")
    whole = values.astype("Int64").where(digits >= 8)  # exact, where floats would round nanoseconds
    to_datetime: Any = pd.to_datetime
    read: pd.Series = pd.Series(to_datetime(whole, unit=unit, errors="coerce", utc=True)).astype(TIME_TYPE)
    return read


def _times_of_text(text: pd.Series) -> pd.Series:
    sample = text[text.notna() & (text != "")]
    if sample.str.fullmatch(r"-?\d+(\.0*)?").mean() > 0.5:
        whole = text.where(_matches(text, r"-?\d+(\.0*)?"))
        number = pd.to_numeric(whole.str.replace(r"\.0*$", "", regex=True), errors="coerce")
        return _times_of_numbers(number.fillna(0).astype(np.int64))
    if sample.str.fullmatch(_NUMERIC_DATE).mean() > 0.5:
        return _numeric_dates(text)
    iso = _read(text, "ISO8601")
    if iso.notna().any():
        return _whole_days_or(iso, _without_zone(text))
    tries = [_read(text, form) for form in WRITTEN_FORMATS]
    return max(tries, key=lambda read: int(read.notna().sum()))


def _read(text: pd.Series, form: str) -> pd.Series:
    to_datetime: Any = pd.to_datetime  # its stubs know no format given as a variable
    read: pd.Series = pd.Series(to_datetime(text, format=form, errors="coerce", utc=True)).astype(TIME_TYPE)
    return read


def _without_zone(text: pd.Series) -> pd.Series:
    local = text.str.replace(_ZONE, "", regex=True).str.strip()
    without: pd.Series = _read(local, "ISO8601").dt.tz_localize(None)
    return without


def _whole_days_or(values: pd.Series, local: pd.Series) -> pd.Series:
    """Return local dates where every local time is midnight (daily bars), else the times in UTC."""
    known = local.dropna()
    if len(known) and (known == known.dt.normalize()).all():
        dates: pd.Series = local.dt.tz_localize("UTC").astype(TIME_TYPE)
        return dates
    return values.astype(TIME_TYPE)


def _numeric_dates(text: pd.Series) -> pd.Series:
    """Read dd-mm-yyyy or mm-dd-yyyy; the place of numbers above 12 decides. Raises AmbiguousDates."""
    parts = text.str.extract(_NUMERIC_DATE)
    first, second = pd.to_numeric(parts[0]), pd.to_numeric(parts[2])
    month_first = bool((second > 12).any()) and not bool((first > 12).any())
    if not month_first and not (first > 12).any() and (parts[1] == "/").any():
        raise AmbiguousDates
    day, month = (parts[2], parts[0]) if month_first else (parts[0], parts[2])
    iso = parts[3] + "-" + month.str.zfill(2) + "-" + day.str.zfill(2) + parts[4].fillna("")
    return _read(iso, "ISO8601")
