from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpc.base.errors import UserErrors
from stockpred.data import bars as bar_table
from stockpred.data import quality
from stockpred.data.factors.build import build
from stockpred.data.factors.definitions import FACTORS, factor
from tests.stockpred.data.panel import checked_panel, segments, with_bars

Segment = pd.DataFrame
PANDAS: dict[str, Callable[[Segment], pd.Series]] = {
    "KMID": lambda bars: (bars.close - bars.open) / bars.open,
    "KUP": lambda bars: (bars.high - bars[["open", "close"]].max(axis=1)) / bars.open,
    "KLOW": lambda bars: (bars[["open", "close"]].min(axis=1) - bars.low) / bars.open,
    "ROC5": lambda bars: bars.close.shift(5) / bars.close,
    "ROC20": lambda bars: bars.close.shift(20) / bars.close,
    "MA5": lambda bars: bars.close.rolling(5).mean() / bars.close,
    "MA20": lambda bars: bars.close.rolling(20).mean() / bars.close,
    "STD5": lambda bars: bars.close.rolling(5).std() / bars.close,
    "STD20": lambda bars: bars.close.rolling(20).std() / bars.close,
    "VOLATILITY5": lambda bars: bars.close.pct_change(fill_method=None).rolling(5).std(),
    "VOLATILITY20": lambda bars: bars.close.pct_change(fill_method=None).rolling(20).std(),
    "MAX20": lambda bars: bars.high.rolling(20).max() / bars.close,
    "MIN20": lambda bars: bars.low.rolling(20).min() / bars.close,
    "VMA5": lambda bars: bars.volume.rolling(5).mean() / bars.volume,
    "VSTD20": lambda bars: bars.volume.rolling(20).std() / bars.volume,
    "CORR20": lambda bars: bars.close.rolling(20).corr(np.log(bars.volume + 1)),
    "MOM120_20": lambda bars: bars.close.shift(20).pct_change(100, fill_method=None),
    "REV1": lambda bars: -bars.close.pct_change(fill_method=None),
    "ILLIQ": lambda bars: (
        1e6 * (bars.close.pct_change(fill_method=None).abs() / (bars.close * bars.volume)).rolling(20).mean()
    ),
}


def plainly(checked: quality.CheckedBars, name: str) -> pd.Series:
    """Return a factor of all bars by pandas, one segment after the other."""
    values = pd.concat([PANDAS[name](segment) for segment in segments(checked)])
    return values.replace([np.inf, -np.inf], np.nan).reindex(checked.bars.index)


def test_every_factor_has_a_plain_pandas_version() -> None:
    assert set(PANDAS) == set(FACTORS)


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_equals_plain_pandas(name: str) -> None:
    checked = checked_panel()
    (values,) = build(checked, [name])
    np.testing.assert_allclose(values, plainly(checked, name), rtol=1e-5, atol=1e-8)
    assert np.isfinite(values).mean() > 0.25


def test_the_panel_has_what_the_comparison_is_about() -> None:
    checked = checked_panel()
    lengths = sorted(map(len, segments(checked)))
    assert checked.left_out.sum() == 10
    assert lengths[0] == 1
    assert sum(length > 120 for length in lengths) >= 10
    assert {"hole", "price_unknown", "range_violated", "volume_not_positive"} <= set(
        checked.findings["check"]
    )
    assert checked.columns.volume[checked.columns.volume == 0].size == 20


@pytest.fixture(scope="module")
def real_checked(real_bars: Path) -> quality.CheckedBars:
    chosen = ["AAPL", "AIG", "BTCUSD", "MUV2.DE", "NOVO-B.CO"]
    bars = pd.read_parquet(real_bars / "market_daily.parquet", filters=[("asset", "in", chosen)])
    bars["time"] = bars["date"].dt.tz_localize("UTC")
    bars, _ = bar_table.tidy(bars.rename(columns={"asset": "symbol"}))
    return quality.check(bars, {symbol: symbol for symbol in bars["symbol"]}, max_hole_sessions=5)


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_of_real_bars_equals_plain_pandas(name: str, real_checked: quality.CheckedBars) -> None:
    (values,) = build(real_checked, [name])
    assert len(values) > 20_000
    # The rounding error that pandas carries along is larger than 1e-8 where a price stands still.
    np.testing.assert_allclose(values, plainly(real_checked, name), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_begins_when_its_window_is_full_and_is_the_same_in_any_company(name: str) -> None:
    checked = checked_panel()
    (together,) = build(checked, [name])
    for segment in segments(checked):
        rows = segment.index.to_numpy()
        alone = with_bars(checked, checked.bars.loc[rows], rows)
        (values,) = build(alone, [name])
        assert values.tobytes() == together[rows].tobytes()
        assert np.isnan(values[: FACTORS[name].lookback]).all()
    clean = checked_panel().bars.query("symbol == 'A3'").tail(200)
    (values,) = build(quality.check(clean.reset_index(drop=True), {"A3": "us_equity"}, 5), [name])
    assert np.flatnonzero(np.isfinite(values))[0] == FACTORS[name].lookback


@pytest.mark.parametrize("block_bars", [13, 500])
def test_the_size_of_the_blocks_changes_no_bit(block_bars: int) -> None:
    checked = checked_panel()
    assert build(checked, FACTORS, block_bars=block_bars).tobytes() == build(checked, FACTORS).tobytes()


def test_bars_that_are_left_out_have_no_factors() -> None:
    checked = checked_panel()
    assert np.isnan(build(checked, FACTORS)[:, checked.left_out]).all()


def test_the_last_bar_of_a_rise_by_hand() -> None:
    """Closes 1, 2, ..., 121 at a volume of 10 that ends with 40; each opens where the one before closed."""
    close = np.arange(1.0, 122.0)
    opened = np.r_[1.0, close[:-1]]
    volume = np.r_[np.full(120, 10.0), 40.0]
    time = pd.date_range("2020-01-01", periods=121, tz="UTC").astype(bar_table.TIME_TYPE)
    bars = pd.DataFrame({"symbol": "X", "time": time, "open": opened, "high": close + 1, "low": opened - 0.5})
    bars = bars.assign(close=close, volume=volume)
    plain = with_bars(checked_panel(), bars, slice(0, 121))
    plain.left_out[:] = False
    plain.break_before[1:] = False
    values = dict(zip(FACTORS, build(plain, FACTORS)[:, -1], strict=True))
    expected = {
        "KMID": 1 / 120, "KUP": 1 / 120, "KLOW": 0.5 / 120, "ROC5": 116 / 121, "ROC20": 101 / 121,
        "MA5": 119 / 121, "MA20": 111.5 / 121, "STD5": 2.5**0.5 / 121, "STD20": 35**0.5 / 121,
        "MAX20": 122 / 121, "MIN20": 100.5 / 121, "VMA5": 16 / 40, "VSTD20": 45**0.5 / 40,
        # Of 1, 2, ..., n with a step at the last: r^2 = 3 / (n + 1).
        "CORR20": (3 / 21) ** 0.5, "MOM120_20": 100.0, "REV1": -1 / 120,
    }  # fmt: skip
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=1e-12), name


def test_unknown_names_are_all_said_at_once_with_the_nearest() -> None:
    with pytest.raises(UserErrors) as caught:
        build(checked_panel(), ["KMID", "ROC50", "nonsense"])
    assert "there is no factor 'ROC50'" in str(caught.value)
    assert "did you mean 'ROC5'?" in str(caught.value)
    assert "there is no factor 'nonsense'" in str(caught.value)


def test_a_name_can_be_taken_once() -> None:
    with pytest.raises(ValueError, match="two factors KMID"):
        factor("KMID", lookback=0)(lambda bars: bars.close)


def test_no_bars_have_no_factors() -> None:
    checked = checked_panel()
    assert build(with_bars(checked, checked.bars.iloc[:0], slice(0, 0)), FACTORS).shape == (len(FACTORS), 0)
