"""The format of the table of bars, and of the findings about them, that every source returns.

Bars: one row per asset and time, sorted by (symbol, time), no pair twice:

symbol  text       the universe's symbol
time    datetime64[ns, UTC]   of a daily bar its session's date at 00:00; of an intraday bar its end
open, high, low, close  float64   adjusted for splits and dividends by one factor per bar; NaN = unknown
volume  float64    traded amount; NaN = unknown

Findings: check, symbol, time, value (what was measured), action (what was done about it). Rows of a file
that name no symbol are listed under the file's name, without a time. No row is left out without a finding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from hpc.base.errors import UserError
from stockpred.data.arrays import Bools, Floats, Ints

PRICES = ("open", "high", "low", "close")
COLUMNS = ("symbol", "time", *PRICES, "volume")
FINDING_COLUMNS = ("check", "symbol", "time", "value", "action")
TIME_TYPE: Final = "datetime64[ns, UTC]"
MIXED_SERIES_SHARE = 0.01  # more conflicting rows than this: two assets share one symbol
MIXED_SERIES_ROWS = 5


@dataclass(frozen=True, eq=False)
class SourceBars:
    """The bars that a source returns, its findings about them, and their origin (JSON values)."""

    bars: pd.DataFrame
    findings: pd.DataFrame
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class BarColumns:
    """The columns of N bars as arrays [N]; row n follows row n-1 in time unless ``is_first[n]``."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    time: Ints
    """int64 ns since 1970 UTC."""
    asset: Ints
    """The number of the bar's asset, in the order of the table."""
    is_first: Bools
    is_last: Bools
    close_return: Floats
    """Log return against the row before; NaN for an asset's first bar and where a close is not above 0."""

    @classmethod
    def of(cls, bars: pd.DataFrame) -> BarColumns:
        """Take the columns out of a table in the bars format."""
        asset = pd.factorize(bars["symbol"])[0].astype(np.int64)
        is_first = np.r_[True, asset[1:] != asset[:-1]] if len(asset) else np.zeros(0, bool)
        values = {name: bars[name].to_numpy(np.float64) for name in (*PRICES, "volume")}
        return cls(
            **values,
            time=times_ns(bars),
            asset=asset,
            is_first=is_first,
            is_last=np.r_[is_first[1:], True] if len(asset) else is_first,
            close_return=_close_returns(values["close"], is_first),
        )


def findings(check: str, rows: pd.DataFrame, value: object, action: str) -> pd.DataFrame:
    """Return one finding for each of ``rows``, a table with symbol and time."""
    found = pd.DataFrame({"symbol": rows["symbol"].astype(str), "time": rows["time"]}).reset_index(drop=True)
    found.insert(0, "check", check)
    found["value"] = np.broadcast_to(np.asarray(value, dtype=np.float64), len(found))
    found["action"] = action
    return found


def no_findings() -> pd.DataFrame:
    empty = pd.DataFrame({"symbol": pd.Series(dtype=str), "time": pd.Series(dtype=TIME_TYPE)})
    return findings("", empty, 0.0, "").iloc[:0]


def join_findings(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Return all findings in one table, ordered by check, symbol and time."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return no_findings()
    return pd.concat(filled, ignore_index=True).sort_values(
        ["check", "symbol", "time"], kind="stable", ignore_index=True
    )


def tidy(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring rows in any order into the bars format; return (bars, findings).

    Of equal rows for one time one is kept, of different ones the last. Raises UserError where there are so
    many different ones that two assets must share the symbol.
    """
    rows = rows.loc[:, list(COLUMNS)].astype(dict.fromkeys((*PRICES, "volume"), np.float64))
    rows["time"] = rows["time"].astype(TIME_TYPE)
    disorder = _out_of_order(rows)
    rows = rows.sort_values(["symbol", "time"], kind="stable", ignore_index=True)
    again = rows.duplicated(["symbol", "time"], keep=False)
    if not again.any():
        return rows, disorder
    exact = rows.duplicated(list(COLUMNS), keep="last")
    conflicts = rows[~exact].duplicated(["symbol", "time"], keep="last").reindex(rows.index, fill_value=False)
    _refuse_mixed_series(rows, conflicts)
    found = [
        disorder,
        findings("duplicate", rows[exact], 1.0, "equal rows merged"),
        findings("conflicting_duplicate", rows[conflicts], rows.loc[conflicts, "close"], "later row kept"),
    ]
    return rows[~exact & ~conflicts].reset_index(drop=True), join_findings(found)


def digest(bars: pd.DataFrame) -> str:
    """Return a sha256 over the values of the bars, whatever file held them."""
    content = hashlib.sha256()
    symbols = bars["symbol"].to_numpy(dtype=object)
    is_first = np.r_[True, symbols[1:] != symbols[:-1]] if len(symbols) else np.zeros(0, bool)
    for start in np.flatnonzero(is_first):
        content.update(f"{symbols[start]}\0{start}\0".encode())
    content.update(times_ns(bars).tobytes())
    for column in (*PRICES, "volume"):
        values = bars[column].to_numpy(np.float64, copy=True)
        values[np.isnan(values)] = np.nan  # one bit pattern for unknown
        content.update(values.tobytes())
    return content.hexdigest()


def times_ns(bars: pd.DataFrame) -> Ints:
    """Return the times as int64 nanoseconds since 1970 UTC."""
    return np.asarray(bars["time"].astype(TIME_TYPE).astype(np.int64), np.int64)


def _close_returns(close: Floats, is_first: Bools) -> Floats:
    log_close = np.log(np.where(close > 0, close, np.nan))
    returns = np.full(len(close), np.nan)
    returns[1:] = np.diff(log_close)
    returns[is_first] = np.nan
    return returns


def _out_of_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a finding per symbol whose rows are in no order of time; value = rows out of order."""
    step = rows["time"].astype(np.int64).diff()
    inside = rows["symbol"] == rows["symbol"].shift()
    backward = ((step < 0) & inside).groupby(rows["symbol"], sort=False).sum()
    forward = ((step > 0) & inside).groupby(rows["symbol"], sort=False).sum()
    mixed = backward.index[(backward > 0) & (forward > 0)]
    if mixed.empty:
        return no_findings()
    first = rows[rows["symbol"].isin(mixed)].drop_duplicates("symbol")
    places = backward.where(backward < forward, forward).loc[list(first["symbol"])].to_numpy()
    return findings("out_of_order", first, places, "sorted")


def _refuse_mixed_series(rows: pd.DataFrame, conflicts: pd.Series) -> None:
    counts = rows[conflicts].groupby("symbol").size()
    totals = rows.groupby("symbol").size().reindex(counts.index)
    mixed = counts[(counts > MIXED_SERIES_ROWS) & (counts > MIXED_SERIES_SHARE * totals)]
    if len(mixed):
        names = ", ".join(map(str, mixed.index[:5]))
        raise UserError(
            f"{len(mixed)} symbols have many different bars at the same time: {names}",
            fix="keep one series per symbol; two sources or two bar lengths seem to be mixed",
        )
