"""Check bars for errors; each one found is reported, and none is dropped silently.

A bar that cannot be right is *left out* of training and scoring; the bars before and after it then belong to
different segments. A *break* separates two good bars of which the second does not continue the first (a
change of unit, a hole). Real moves are kept: a price that jumps and stays is news, a price that jumps and
comes straight back is an error.

A bar is judged by what is known at its own time, with two exceptions, which can remove a bar but never change
one: a spike is recognised by the bar after it, and a bar is known to be an asset's last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from stockpred.data import bars as bar_table
from stockpred.data.arrays import Bools, Floats, Ints
from stockpred.data.bars import BarColumns

SPIKE_RETURN = 0.25  # log return beyond the category's; smaller spikes look like news
SPIKE_SIGMAS = 8.0
SPIKE_REMAINDER = 0.1  # share of the jump that may remain at the next bar
UNTRADED_RETURN = 0.03
UNTRADED_SIGMAS = 2.5
UNTRADED_REMAINDER = 0.5
SIGMA_BARS = 60
MIN_SIGMA_BARS = 20  # returns before a bar can be called a spike; as many as its volatility usually needs
SIGMA_FLOOR = 0.002
SIGMA_PER_MEDIAN = 1.4826  # of |return|, for a normal distribution
MIN_PEERS = 5
UNIT_RATIOS = (10.0, 20.0, 100.0, 1000.0)
UNIT_TOLERANCE = 0.2  # log
LARGE_MOVE = 0.5  # log return: reported, kept
FAR_WICK = 0.5
LIVE_TIMES = 20  # an asset that has not traded for longer is not expected at the next session
RANGE_TOLERANCE = 1e-6
STALE_BARS = 5
UNFINISHED_VOLUME_SHARE = 0.1
USUAL_VOLUME_BARS = 20


@dataclass(frozen=True, eq=False)
class CheckedBars:
    """All N bars, unchanged, with what training must respect.

    ``findings`` holds one row per finding of the checks (see ``bars``).
    """

    bars: pd.DataFrame
    columns: BarColumns
    left_out: Bools
    """[N] bars that are neither trained on nor scored."""
    break_before: Bools
    """[N] bars that begin a new segment."""
    findings: pd.DataFrame


@dataclass(frozen=True)
class _Mark:
    """The rows that one check found, with the measured value of each [N], and what is done about them."""

    check: str
    rows: Bools
    value: Floats
    action: str
    leaves_out: bool = False
    breaks: bool = False


def check(bars: pd.DataFrame, category_of: Mapping[str, str], max_hole_sessions: int) -> CheckedBars:
    """Run every check over tidy ``bars``; a hole is more than ``max_hole_sessions`` missing sessions."""
    columns = BarColumns.of(bars)
    categories = bars["symbol"].map(category_of).to_numpy(dtype=object)
    marks = [*_impossible(columns), *_jumps(columns, _category_move(columns, categories))]
    marks += [*_idle(columns), _unfinished(columns)]
    marks.append(_holes(columns, categories, max_hole_sessions))
    left_out = np.zeros(len(bars), bool)
    breaks = np.zeros(len(bars), bool)
    for mark in marks:
        left_out |= mark.rows & mark.leaves_out
        breaks |= mark.rows & mark.breaks
    breaks[1:] |= left_out[:-1]
    found = [
        bar_table.findings(mark.check, bars[mark.rows], mark.value[mark.rows], mark.action) for mark in marks
    ]
    return CheckedBars(bars, columns, left_out, breaks | columns.is_first, bar_table.join_findings(found))


def _impossible(columns: BarColumns) -> list[_Mark]:
    prices = np.stack([columns.open, columns.high, columns.low, columns.close])
    unknown = np.asarray(~np.isfinite(prices).all(axis=0), np.bool_)
    with np.errstate(invalid="ignore"):
        lowest = prices.min(axis=0)
        top, bottom = np.maximum(columns.open, columns.close), np.minimum(columns.open, columns.close)
        excess = np.maximum(np.maximum(top - columns.high, columns.low - bottom), 0.0) / np.abs(columns.close)
        not_positive = np.asarray(~unknown & (lowest <= 0), np.bool_)
        odd_range = ~unknown & ~not_positive & (excess > RANGE_TOLERANCE)
        upper = np.log(columns.high / top, where=(top > 0) & (columns.high > 0), out=np.zeros(len(top)))
        lower = np.log(bottom / columns.low, where=(bottom > 0) & (columns.low > 0), out=np.zeros(len(top)))
        negative_volume = np.asarray(columns.volume < 0, np.bool_)
    wick = np.maximum(upper, lower)
    return [
        _Mark("price_unknown", unknown, np.zeros(len(wick)), "left out", leaves_out=True),
        _Mark("price_not_positive", not_positive, lowest, "left out", leaves_out=True),
        _Mark("range_violated", odd_range, excess, "kept; the range is widened to open and close"),
        _Mark("far_wick", np.asarray(wick > FAR_WICK), wick, "kept"),
        _Mark("volume_not_positive", negative_volume, columns.volume, "kept; volume counts as unknown"),
    ]


def _category_move(columns: BarColumns, categories: npt.NDArray[np.object_]) -> Floats:
    """Return the median return [N] of each bar's category at its time; 0 with fewer than MIN_PEERS returns.

    Where a whole category moves, as in a crash, a large return is no error.
    """
    frame = pd.DataFrame({"category": categories, "time": columns.time, "move": columns.close_return})
    median = frame.groupby(["category", "time"], sort=False)["move"].transform("median")
    num_peers = frame.groupby(["category", "time"], sort=False)["move"].transform("count")
    return np.where(num_peers >= MIN_PEERS, median, 0.0)


def _jumps(columns: BarColumns, common: Floats) -> list[_Mark]:
    jump = columns.close_return
    spike = _spikes(columns, common) | _open_spikes(columns, common)
    is_unit = _is_unit_ratio(jump) & ~spike & ~_just_after(spike)
    unit_at_end = is_unit & columns.is_last
    large = (np.abs(jump) > LARGE_MOVE) & ~spike & ~_just_after(spike) & ~is_unit
    return [
        _Mark("spike", spike, jump, "left out", leaves_out=True),
        _Mark("unit_flip_at_end", unit_at_end, jump, "left out", leaves_out=True),
        _Mark("unit_flip", is_unit & ~unit_at_end, jump, "kept; a new segment begins", breaks=True),
        _Mark("large_move", large, jump, "kept"),
    ]


def _spikes(columns: BarColumns, common: Floats) -> Bools:
    """Find bars whose close jumps without its category and comes straight back.

    Bars with trades must jump further than those without to count as spikes.
    """
    jump = columns.close_return
    back = np.abs(jump + np.r_[jump[1:], np.nan])
    size = np.abs(jump)
    alone = np.abs(jump - common)
    is_flat = (columns.open == columns.close) & (columns.high == columns.low) & (columns.volume == 0)
    has_trade = columns.volume > 0
    untraded = is_flat & np.r_[False, has_trade[:-1]] & np.r_[has_trade[1:], False]
    with np.errstate(invalid="ignore"):
        strict = (alone > SPIKE_RETURN) & (back < SPIKE_REMAINDER * size)
        lenient = untraded & (alone > UNTRADED_RETURN) & (back < UNTRADED_REMAINDER * size)
    spike = np.zeros(len(jump), bool)
    for row in map(int, np.flatnonzero(strict | lenient)):
        sigmas = SPIKE_SIGMAS if strict[row] else UNTRADED_SIGMAS
        # The jump right after a spike is its way back, not a second spike.
        spike[row] = not spike[row - 1] and alone[row] > sigmas * _usual_move(columns, row)
    return spike


def _open_spikes(columns: BarColumns, common: Floats) -> Bools:
    """Find bars whose open jumps without the category, and whose close undoes the gap."""
    previous = np.r_[np.nan, columns.close[:-1]]
    previous[columns.is_first] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.log(columns.open / previous)
        way_back = np.log(columns.close / columns.open)
        odd = (np.abs(gap - common) > SPIKE_RETURN) & (np.abs(gap + way_back) < SPIKE_REMAINDER * np.abs(gap))
    spike = np.zeros(len(gap), bool)
    for row in map(int, np.flatnonzero(odd)):
        spike[row] = abs(gap[row]) > SPIKE_SIGMAS * _usual_move(columns, row)
    return spike


def _usual_move(columns: BarColumns, row: int) -> float:
    """Return a robust standard deviation of the returns before ``row``; NaN where too few are known."""
    past = slice(max(row - SIGMA_BARS, 0), row)
    near = columns.close_return[past][columns.asset[past] == columns.asset[row]]
    near = near[np.isfinite(near)]
    if len(near) < MIN_SIGMA_BARS:
        return np.nan
    return max(SIGMA_PER_MEDIAN * float(np.median(np.abs(near))), SIGMA_FLOOR)


def _is_unit_ratio(jump: Floats) -> Bools:
    size = np.abs(jump)
    with np.errstate(invalid="ignore"):
        near = [np.abs(size - np.log(ratio)) < UNIT_TOLERANCE for ratio in UNIT_RATIOS]
    return np.asarray(np.logical_or.reduce(near), np.bool_)


def _just_after(rows: Bools) -> Bools:
    return np.concatenate([[False], rows[:-1]])


def _idle(columns: BarColumns) -> list[_Mark]:
    """Find prices that do not move: those beyond STALE_BARS in a row count as bars without trades."""
    still = (columns.close_return == 0) & (columns.open == columns.close) & (columns.high == columns.low)
    run = _run_length(still)
    return [
        _Mark("stale", still & (run == STALE_BARS), run.astype(np.float64), "kept"),
        _Mark("stale_run", run > STALE_BARS, run.astype(np.float64), "left out", leaves_out=True),
    ]


def _run_length(rows: Bools) -> Ints:
    """Return [N] how many marked rows in a row end at each row."""
    index = np.arange(len(rows))
    last_unmarked = np.maximum.accumulate(np.where(rows, -1, index)) if len(rows) else index
    return np.asarray(index - last_unmarked, np.int64)


def _unfinished(columns: BarColumns) -> _Mark:
    """Find last bars with hardly any volume: the data were taken before the session ended."""
    share = np.full(len(columns.volume), np.nan)
    for row in np.flatnonzero(columns.is_last):
        past = slice(max(row - USUAL_VOLUME_BARS, 0), row)
        volume = columns.volume[past][columns.asset[past] == columns.asset[row]]
        usual = np.median(volume) if len(volume) == USUAL_VOLUME_BARS else np.nan
        share[row] = columns.volume[row] / usual if usual > 0 else np.nan
    with np.errstate(invalid="ignore"):
        rows = share < UNFINISHED_VOLUME_SHARE
    return _Mark("unfinished_last_bar", rows, share, "left out", leaves_out=True)


def _holes(columns: BarColumns, categories: npt.NDArray[np.object_], max_hole_sessions: int) -> _Mark:
    missing = np.zeros(len(columns.time))
    for category in sorted(set(categories)):
        rows = np.flatnonzero(categories == category)
        time, asset = columns.time[rows], columns.asset[rows]
        is_alone = len(np.unique(asset)) == 1
        missing[rows] = _missing_days(time) if is_alone else _missing_sessions(time, asset)
    missing[columns.is_first] = 0.0
    return _Mark("hole", missing > max_hole_sessions, missing, "kept; a new segment begins", breaks=True)


def _missing_sessions(time: Ints, asset: Ints) -> Ints:
    """Count, for each bar of one category, the sessions since its asset's bar before."""
    sessions = session_times(time, asset)
    before = np.searchsorted(sessions, time, side="left")
    after = np.searchsorted(sessions, time, side="right")
    return np.asarray(before - np.r_[0, after[:-1]], np.int64)


def _missing_days(time: Ints) -> Ints:
    """Count the days without a bar before each bar of an asset that no other shows the sessions of.

    Weekends count where one of its last ``LIVE_TIMES`` bars is on a weekend; holidays always do.
    """
    day = time.astype("datetime64[ns]").astype("datetime64[D]")
    follows = np.concatenate([day[:1], day[:-1]])
    on_weekend = np.cumsum(~np.is_busday(day))
    recently = on_weekend - np.concatenate([np.zeros(LIVE_TIMES, np.int64), on_weekend])[: len(day)] > 0
    skipped = np.where(recently, (day - follows).astype(np.int64), np.busday_count(follows, day)) - 1
    return np.asarray(np.maximum(skipped, 0), np.int64)


def session_times(time: Ints, asset: Ints) -> Ints:
    """Return the times at which at least half of the assets trade that are live then.

    ``time`` and ``asset`` describe one category's bars, sorted by asset and time. An asset is live from its
    first bar on, while it has traded at one of the category's last ``LIVE_TIMES`` times: who comes back
    later, or never, changes no session before.
    """
    times, index, trading = np.unique(time, return_inverse=True, return_counts=True)
    following = np.r_[np.where(asset[1:] == asset[:-1], index[1:], len(times)), len(times)][: len(index)]
    end = np.minimum(following, index + 1 + LIVE_TIMES)  # until then the bar keeps its asset live
    begun = np.bincount(index, minlength=len(times))
    ended = np.bincount(np.minimum(end, len(times)), minlength=len(times) + 1)[:-1]
    return np.asarray(times[2 * trading >= np.cumsum(begun - ended)], np.int64)
