from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from hpc.base.errors import UserError
from stockpred.data import bars as bar_table
from stockpred.data import indicators, quality
from stockpred.data.indicators import INDICATORS, build
from tests.stockpred.data.panel import checked_panel, segments, with_bars

Values = np.ndarray


def _ema(values: Sequence[float], span: int, first: int) -> Values:
    """Return the exponential mean whose first value, at place ``first``, is that of the window before."""
    result = np.full(len(values), np.nan)
    if len(values) > first:
        result[first] = np.mean(values[first - span + 1 : first + 1])
    for at in range(first + 1, len(values)):
        result[at] = result[at - 1] + 2 / (span + 1) * (values[at] - result[at - 1])
    return result


def _macd(bars: pd.DataFrame) -> tuple[Values, Values, Values]:
    close = bars["close"].to_numpy()
    line = _ema(close, 12, first=25) - _ema(close, 26, first=25)
    signal = _ema(line, 9, first=33)
    line = np.where(np.isnan(signal), np.nan, line)
    return line, signal, line - signal


def _rsi(bars: pd.DataFrame) -> Values:
    change = np.diff(bars["close"].to_numpy())
    result = np.full(len(bars), np.nan)
    for at in range(14, len(bars)):
        if at == 14:
            gain, loss = np.maximum(change[:14], 0).mean(), np.maximum(-change[:14], 0).mean()
        else:
            gain = (13 * gain + max(change[at - 1], 0)) / 14
            loss = (13 * loss + max(-change[at - 1], 0)) / 14
        result[at] = 100 * gain / (gain + loss) if gain + loss else np.nan
    return result


def _cci(bars: pd.DataFrame) -> Values:
    price = ((bars["high"] + bars["low"] + bars["close"]) / 3).to_numpy()
    result = np.full(len(bars), np.nan)
    for at in range(19, len(bars)):
        window = price[at - 19 : at + 1]
        spread = np.abs(window - window.mean()).mean()
        result[at] = (price[at] - window.mean()) / (0.015 * spread) if np.ptp(window) else 0
    return result


def _adx(bars: pd.DataFrame) -> Values:
    """Follow Wilder, New Concepts in Technical Trading Systems (1978), with sums as he writes them."""
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    up, down = np.diff(high), -np.diff(low)
    moves = np.stack(
        [
            np.where((up > down) & (up > 0), up, 0),
            np.where((down > up) & (down > 0), down, 0),
            np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1]),
        ]
    )
    result, dx = np.full(len(bars), np.nan), list[float]()
    total = moves[:, :13].sum(axis=1)
    for at in range(14, len(bars)):
        total = total - total / 14 + moves[:, at - 1]
        plus, minus, _ = total
        dx.append(100 * abs(plus - minus) / (plus + minus) if plus + minus else 0.0)
        if at == 27:
            result[at] = np.mean(dx)
        if at > 27:
            result[at] = (13 * result[at - 1] + dx[-1]) / 14
    return result


TEXTBOOK = {
    "MACD": lambda bars: _macd(bars)[0],
    "MACD_SIGNAL": lambda bars: _macd(bars)[1],
    "MACD_HISTOGRAM": lambda bars: _macd(bars)[2],
    "RSI14": _rsi,
    "CCI20": _cci,
    "ADX14": _adx,
}


def test_every_indicator_has_its_textbook_recursion() -> None:
    assert set(TEXTBOOK) == set(INDICATORS)


@pytest.mark.parametrize("name", INDICATORS)
def test_an_indicator_equals_the_textbook_in_each_segment(name: str) -> None:
    checked = checked_panel()
    expected = np.full(len(checked.bars), np.nan)
    for segment in segments(checked):
        expected[segment.index] = TEXTBOOK[name](segment)
    (values,) = build(checked, [name])
    # MACD is in units of the price, of which the smallest is 1e-7.
    np.testing.assert_allclose(values / _unit(checked, name), expected / _unit(checked, name), atol=1e-9)
    assert 0.5 < np.isfinite(values).mean() < 0.95


def _unit(checked: quality.CheckedBars, name: str) -> Values | float:
    return checked.columns.close if name.startswith("MACD") else 1.0


def test_rsi_of_a_published_example() -> None:
    """The example of StockCharts' ChartSchool: its closes as printed, to 2 digits; its values are from 4."""
    close = [
        44.34, 44.09, 44.15, 43.61, 44.33, 44.83, 45.10, 45.42, 45.84, 46.08, 45.89, 46.03, 45.61, 46.28,
        46.28, 46.00, 46.03, 46.41, 46.22, 45.64, 46.21,
    ]  # fmt: skip
    bars = _flat_bars(np.array(close))
    (values,) = build(quality.check(bars, {"X": "us_equity"}, 5), ["RSI14"])
    assert values[14:] == pytest.approx([70.53, 66.32, 66.55, 69.41, 66.36, 57.97, 62.93], abs=0.1)


@pytest.mark.parametrize("name", INDICATORS)
def test_an_indicator_begins_after_its_warm_up_and_is_the_same_in_any_company(name: str) -> None:
    checked = checked_panel()
    (together,) = build(checked, [name])
    for segment in segments(checked):
        rows = segment.index.to_numpy()
        (values,) = build(with_bars(checked, checked.bars.loc[rows], rows), [name])
        assert values.tobytes() == together[rows].tobytes()
        if len(rows) > 60 and segment["symbol"].iloc[0] != "CONSTANT":
            assert np.flatnonzero(np.isfinite(values)).tolist() == [
                *range(INDICATORS[name].lookback, len(rows))
            ]


@pytest.mark.parametrize("name", INDICATORS)
def test_an_indicator_is_the_same_at_any_price_level(name: str) -> None:
    checked = checked_panel()
    bars = checked.bars.assign(**{price: checked.bars[price] * 2.0**-40 for price in bar_table.PRICES})
    (small,) = build(with_bars(checked, bars), [name])
    (values,) = build(checked, [name])
    unit = 2.0**-40 if name.startswith("MACD") else 1.0
    np.testing.assert_allclose(small / unit, values, rtol=1e-9, atol=1e-9)


def test_a_price_that_never_moved_has_no_rsi() -> None:
    close = np.r_[np.full(20, 5.0), 4.0, np.full(9, 4.0)]
    marks = checked_panel()
    marks.left_out[:30], marks.break_before[1:30] = False, False
    (values,) = build(with_bars(marks, _flat_bars(close), slice(0, 30)), ["RSI14"])
    assert np.isnan(values[:20]).all()
    assert values[20:].tolist() == [0.0] * 10


def test_bars_that_are_left_out_have_no_indicators() -> None:
    checked = checked_panel()
    assert np.isnan(build(checked, INDICATORS)[:, checked.left_out]).all()


def test_an_unknown_name_is_said_with_the_nearest() -> None:
    with pytest.raises(UserError, match="there is no indicator 'RSI'") as caught:
        build(checked_panel(), ["RSI"])
    assert caught.value.fix == "did you mean 'RSI14'?"


def test_a_missing_library_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "talib", None)
    with pytest.raises(UserError, match="TA-Lib, which is not installed") as caught:
        indicators.build(checked_panel(), ["RSI14"])
    assert "stockpred[indicators]" in str(caught.value)


def _flat_bars(close: Values) -> pd.DataFrame:
    """Return bars of one asset X whose four prices are equal."""
    time = pd.date_range("2020-01-01", periods=len(close), tz="UTC").astype(bar_table.TIME_TYPE)
    bars = pd.DataFrame({"symbol": "X", "time": time, "volume": 1.0})
    return bars.assign(**dict.fromkeys(bar_table.PRICES, close))
