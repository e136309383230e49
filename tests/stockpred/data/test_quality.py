from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpred.data import bars as bar_table
from stockpred.data import quality, universe
from stockpred.data.quality import CheckedBars
from stockpred.data.sources import files

MakeBars = Callable[..., pd.DataFrame]
PRICES = list(bar_table.PRICES)
AT = 100


def _check(bars: pd.DataFrame, max_hole_sessions: int = 5) -> CheckedBars:
    return quality.check(bars, dict.fromkeys(bars["symbol"], "us_equity"), max_hole_sessions)


def _found(checked: CheckedBars, check: str) -> list[int]:
    times = checked.findings.loc[checked.findings["check"] == check, "time"]
    return checked.bars.index[checked.bars["time"].isin(times)].tolist()


def test_good_bars_raise_no_finding(make_bars: MakeBars) -> None:
    checked = _check(make_bars())
    assert checked.findings.empty
    assert not checked.left_out.any()
    assert checked.break_before.sum() == 1


def test_bars_are_never_changed_nor_dropped(make_bars: MakeBars) -> None:
    bars = make_bars()
    bars.loc[AT, PRICES] *= 100
    bars.loc[50, "close"] = np.nan
    before = bars.copy()
    checked = _check(bars)
    pd.testing.assert_frame_equal(checked.bars, before)
    assert len(checked.findings) == 2


@pytest.mark.parametrize("factor", [0.01, 0.05, 0.5, 2.0, 10.0, 100.0])
def test_a_spike_that_reverts_is_left_out(make_bars: MakeBars, factor: float) -> None:
    bars = make_bars()
    bars.loc[AT, PRICES] *= factor
    checked = _check(bars)
    assert _found(checked, "spike") == [AT]
    assert np.flatnonzero(checked.left_out).tolist() == [AT]
    assert checked.break_before[AT + 1]


@pytest.mark.parametrize("later", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("at", "is_spike"), [(5, False), (20, False), (21, True)])
def test_how_calm_it_is_later_does_not_say_what_is_a_spike(
    make_bars: MakeBars, at: int, is_spike: bool, later: float
) -> None:
    bars = make_bars()
    bars.loc[at, PRICES] *= 1.5
    rest = bars.loc[at + 1 :, PRICES]
    bars.loc[at + 1 :, PRICES] = rest.iloc[0] * (rest / rest.iloc[0]) ** later
    assert _check(bars).left_out[at] == is_spike


@pytest.mark.parametrize("factor", [0.48, 0.6, 1.8])
def test_a_move_that_stays_is_kept(make_bars: MakeBars, factor: float) -> None:
    bars = make_bars()
    bars.loc[AT:, PRICES] *= factor
    checked = _check(bars)
    assert _found(checked, "large_move") == [AT]
    assert not checked.left_out.any()
    assert not checked.break_before[1:].any()


@pytest.mark.parametrize("factor", [10.0, 20.0, 100.0, 0.1, 0.05, 0.01])
def test_a_unit_flip_that_stays_begins_a_segment(make_bars: MakeBars, factor: float) -> None:
    bars = make_bars()
    bars.loc[AT:, PRICES] *= factor
    checked = _check(bars)
    assert _found(checked, "unit_flip") == [AT]
    assert not checked.left_out.any()
    assert np.flatnonzero(checked.break_before).tolist() == [0, AT]


def test_repeated_spikes_are_each_found(make_bars: MakeBars) -> None:
    bars = make_bars()
    rows = [60, 69, 78, 79 + 1, 90]
    bars.loc[rows, PRICES] *= 2
    assert np.flatnonzero(_check(bars).left_out).tolist() == rows


def test_a_crash_that_all_share_is_kept(make_bars: MakeBars) -> None:
    bars = pd.concat([make_bars(symbol=f"S{n}", seed=n) for n in range(8)], ignore_index=True)
    bars.loc[bars["time"] == bars["time"].iloc[AT], PRICES] *= 0.65
    assert not _check(bars).left_out.any()


def test_an_open_far_off_is_left_out(make_bars: MakeBars) -> None:
    bars = make_bars()
    bars.loc[AT, "open"] *= 0.25
    bars.loc[AT, "low"] = bars.loc[AT, "open"]
    assert _found(_check(bars), "spike") == [AT]


@pytest.mark.parametrize("price", [0.0, -37.63])
def test_a_price_without_a_logarithm_is_kept_reported_and_no_token(make_bars: MakeBars, price: float) -> None:
    bars = make_bars(start="2020-01-11")
    bars.loc[AT, ["low", "close"]] = price
    checked = _check(bars)
    finding = checked.findings[checked.findings["check"] == "price_not_positive"].iloc[0]
    assert finding["value"] == price
    assert finding["time"] == pd.Timestamp("2020-04-20", tz="UTC")
    assert checked.bars.loc[AT, "close"] == price
    assert checked.left_out[AT]


def test_ranges_that_do_not_hold_open_and_close_are_kept(make_bars: MakeBars) -> None:
    bars = make_bars()
    bars.loc[AT, "high"] = bars.loc[AT, "low"] * 0.99
    checked = _check(bars)
    assert _found(checked, "range_violated") == [AT]
    assert not checked.left_out.any()


def test_a_stale_price_is_left_out_once_it_is_stale(make_bars: MakeBars) -> None:
    bars = make_bars()
    bars.loc[AT + 1 : AT + 10, PRICES] = bars.loc[AT, "close"]
    checked = _check(bars)
    assert np.flatnonzero(checked.left_out).tolist() == list(range(AT + 6, AT + 11))


@pytest.mark.parametrize(("missing", "is_hole"), [(5, False), (6, True)])
def test_a_hole_is_counted_in_the_sessions_of_the_category(
    make_bars: MakeBars, missing: int, is_hole: bool
) -> None:
    others = [make_bars(symbol=f"S{n}", seed=n) for n in range(3)]
    gap = make_bars(symbol="GAP", seed=9).drop(index=range(AT, AT + missing))
    bars = pd.concat([gap, *others], ignore_index=True)
    assert (_found(_check(bars), "hole") != []) is is_hole


@pytest.mark.parametrize(("missing", "is_hole"), [(5, False), (6, True)])
def test_an_asset_alone_has_holes_too(make_bars: MakeBars, missing: int, is_hole: bool) -> None:
    every_day = make_bars()
    assert (_found(_check(every_day.drop(index=range(AT, AT + missing))), "hole") != []) is is_hole
    weekdays = make_bars()
    weekdays = weekdays[weekdays["time"].dt.day_of_week < 5].reset_index(drop=True)
    assert (_found(_check(weekdays.drop(index=range(AT, AT + missing))), "hole") != []) is is_hole


def test_who_stops_to_trade_on_weekends_has_no_holes_there(make_bars: MakeBars) -> None:
    bars = make_bars(count=300)
    bars = bars[(bars["time"].dt.day_of_week < 5) | (bars.index < 100)]
    assert _found(_check(bars, max_hole_sessions=2), "hole") == []
    week = bars["time"].between("2020-09-07", "2020-09-13")
    assert len(_found(_check(bars[~week].reset_index(drop=True), max_hole_sessions=4), "hole")) == 1


def test_days_on_which_all_are_closed_are_no_hole(make_bars: MakeBars) -> None:
    closed = [make_bars(symbol=f"S{n}", seed=n).drop(index=range(AT, AT + 30)) for n in range(3)]
    assert _found(_check(pd.concat(closed, ignore_index=True)), "hole") == []


def test_sessions_are_days_on_which_half_of_the_live_assets_trade() -> None:
    time = np.array([1, 2, 3, 4, 1, 4, 1, 3, 4, 4, 5])
    asset = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    # On day 2 one of three live assets trades, on day 3 two of three.
    # On day 5 one of four: that the others are gone for good is not known yet.
    assert quality.session_times(time, asset).tolist() == [1, 3, 4]


def test_who_has_not_traded_for_long_is_not_expected() -> None:
    gone = quality.LIVE_TIMES
    time = np.r_[0, 0, np.arange(gone + 10)]
    asset = np.r_[0, 1, np.full(gone + 10, 2)]
    assert quality.session_times(time, asset).tolist() == [0, *range(gone + 1, gone + 10)]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 79))
def test_a_session_is_known_on_its_day(seed: int, num_assets: int, last: int) -> None:
    rng = np.random.default_rng(seed)
    asset, time = np.nonzero(rng.random((num_assets, 80)) < rng.random((num_assets, 1)))
    is_past = time <= last
    sessions = quality.session_times(time, asset)
    known = quality.session_times(time[is_past], asset[is_past])
    assert known.tolist() == sessions[sessions <= last].tolist()


def test_an_unfinished_last_bar_is_left_out(make_bars: MakeBars) -> None:
    bars = make_bars()
    bars.loc[len(bars) - 1, "volume"] = 1.0
    assert np.flatnonzero(_check(bars).left_out).tolist() == [len(bars) - 1]


def test_a_unit_flip_in_the_last_bar_is_left_out(make_bars: MakeBars) -> None:
    bars = make_bars()
    bars.loc[len(bars) - 1, PRICES] /= 100
    assert np.flatnonzero(_check(bars).left_out).tolist() == [len(bars) - 1]


@pytest.fixture(scope="module")
def market(real_bars: Path) -> tuple[Any, CheckedBars]:
    cases = Path(__file__).resolve().parents[3] / "cases"
    assets = universe.read(cases / "full_market" / "universe.csv")
    loaded = files.load(SimpleNamespace(dir=str(real_bars)), assets)  # type: ignore[arg-type]
    category_of = {asset.symbol: asset.category for asset in assets.assets}
    return loaded, quality.check(loaded.bars, category_of, 5)


def _is_left_out(checked: CheckedBars, symbol: str, day: str) -> bool:
    row = (checked.bars["symbol"] == symbol) & (checked.bars["time"] == pd.Timestamp(day, tz="UTC"))
    assert row.sum() == 1
    return bool(checked.left_out[row.to_numpy()][0])


@pytest.mark.parametrize(
    ("symbol", "day"),
    [
        ("BAJFINANCE.NS", "2005-07-28"),
        ("BPCL.NS", "2005-07-28"),
        ("JSWSTEEL.NS", "2005-07-28"),
        ("ICICIBANK.NS", "2005-07-28"),
        ("BHARTIARTL.NS", "2005-07-28"),
        ("BMY.L", "2022-06-14"),
        ("ZR=F", "2024-06-24"),
        ("MUV2.DE", "2001-03-14"),
        ("MUV2.DE", "2001-10-16"),
        ("NOVO-B.CO", "2003-06-05"),
        ("NOVO-B.CO", "2010-05-14"),
    ],
)
def test_known_errors_of_the_real_bars_are_left_out(market: Any, symbol: str, day: str) -> None:
    assert _is_left_out(market[1], symbol, day)


@pytest.mark.parametrize(
    ("symbol", "day"),
    [
        ("AAPL", "2000-09-29"),
        ("AIG", "2008-09-15"),
        ("CHZ", "2022-11-09"),
        ("SOL", "2022-11-09"),
        ("LUNA", "2022-09-09"),
        ("STT", "2009-01-20"),
        ("PCG", "2018-11-15"),
        ("BTC", "2023-02-18"),
        ("NOVO-B.CO", "2003-06-06"),
    ],
)
def test_real_moves_of_the_real_bars_are_kept(market: Any, symbol: str, day: str) -> None:
    assert not _is_left_out(market[1], symbol, day)


def test_wrong_adjustments_of_axa_are_undone(market: Any) -> None:
    loaded, checked = market
    jumps = loaded.findings[loaded.findings["check"] == "adjustment_jump"]
    assert {"1991", "1992", "1993"} <= set(jumps[jumps["symbol"] == "CS.PA"]["time"].dt.strftime("%Y"))
    early = (checked.bars["symbol"] == "CS.PA") & (checked.bars["time"].dt.year < 1994)
    assert np.abs(np.diff(np.log(checked.bars.loc[early, "close"]))).max() < 0.3
