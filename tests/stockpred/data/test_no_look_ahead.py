"""No factor, indicator or cross-section at a time depends on a bar after it.

Each is computed again on bars that end at the time, and on bars that are different ones after it: all values
up to the time must be the same bit for bit. Ways to look ahead, planted here, show that the comparison would
see them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from stockpred.data import bars as bar_table
from stockpred.data import indicators
from stockpred.data.factors import build as factors
from stockpred.data.factors import cross_section, windows
from stockpred.data.factors.definitions import FACTORS, Factor
from stockpred.data.indicators import INDICATORS
from stockpred.data.quality import CheckedBars
from stockpred.data.series import BarSeries
from tests.stockpred.data.panel import CATEGORY, checked_panel, with_bars

Compute = Callable[[CheckedBars], np.ndarray]
"""From N checked bars to values [N]."""
Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]
PLACES = (1, 30, 121, 150, 175, 230, 301, 418)


def _factor(name: str) -> Compute:
    return lambda checked: factors.build(checked, [name])[0]


def _indicator(name: str) -> Compute:
    return lambda checked: indicators.build(checked, [name])[0]


def _compared(compare: Compare, *, by_time: bool = True) -> Compute:
    def compute(checked: CheckedBars) -> np.ndarray:
        category = checked.bars["symbol"].map(CATEGORY).to_numpy(str)
        time = checked.columns.time if by_time else np.zeros(len(category))
        return compare(_factor("ROC5")(checked), cross_section.groups(time, category))

    return compute


def _futures(checked: CheckedBars, time: pd.Timestamp) -> Iterator[CheckedBars]:
    """Yield the bars up to ``time`` alone, with other bars after it, and with unknown bars after it."""
    past = (checked.bars["time"] <= time).to_numpy()
    yield with_bars(checked, checked.bars[past], past)
    rng = np.random.default_rng(0)
    for multiples in (np.exp(rng.standard_normal((sum(~past), 5))), np.full((sum(~past), 5), np.nan)):
        bars = checked.bars.copy()
        bars.loc[~past, [*bar_table.PRICES, "volume"]] *= multiples
        yield with_bars(checked, bars)


def _looks_ahead(compute: Compute) -> bool:
    """Say whether any value up to one of ``PLACES`` changes with the bars after it."""
    checked = checked_panel()
    values = compute(checked)
    times = np.sort(checked.bars["time"].unique())
    for place in PLACES:
        past = (checked.bars["time"] <= times[place]).to_numpy()
        for future in _futures(checked, times[place]):
            again = compute(future)
            again = again if len(again) == past.sum() else again[past]
            if again.tobytes() != values[past].tobytes():
                return True
    return False


@pytest.mark.parametrize("name", FACTORS)
def test_no_factor_looks_ahead(name: str) -> None:
    assert not _looks_ahead(_factor(name))


@pytest.mark.parametrize("name", INDICATORS)
def test_no_indicator_looks_ahead(name: str) -> None:
    assert not _looks_ahead(_indicator(name))


@pytest.mark.parametrize("compare", [cross_section.rank, cross_section.z_score])
def test_no_cross_section_looks_ahead(compare: Compare) -> None:
    assert not _looks_ahead(_compared(compare))


def _next_return(bars: BarSeries) -> np.ndarray:
    return pd.Series(bars.close).shift(-1).to_numpy() / bars.close


def _centered_mean(bars: BarSeries) -> np.ndarray:
    return pd.Series(bars.close).rolling(5, center=True).mean().to_numpy() / bars.close


def _standardized_by_all(bars: BarSeries) -> np.ndarray:
    change = bars.close / windows.lag(bars.close, 1)
    return (change - np.nanmean(change)) / np.nanstd(change)


def _filled_backward(bars: BarSeries) -> np.ndarray:
    return pd.Series(bars.volume).bfill().to_numpy()


def _running_sum(bars: BarSeries) -> np.ndarray:
    """Sum 5 closes by running sums, whose rounding depends on the later bars of the assets before."""
    total = np.cumsum(np.nan_to_num(bars.close))
    return (total - windows.lag(total, 5)) / bars.close


@pytest.mark.parametrize(
    "leaky", [_next_return, _centered_mean, _standardized_by_all, _filled_backward, _running_sum]
)
def test_a_factor_that_looks_ahead_is_caught(
    leaky: Callable[[BarSeries], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FACTORS, "LEAKY", Factor(5, leaky))
    assert _looks_ahead(_factor("LEAKY"))


@pytest.mark.parametrize("compare", [cross_section.rank, cross_section.z_score])
def test_a_comparison_over_all_times_is_caught(compare: Compare) -> None:
    assert _looks_ahead(_compared(compare, by_time=False))
