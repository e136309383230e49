"""What rivals read, against pandas, loops over bars, and hand calculation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hpc.base.errors import UserError
from stockpred.data import quality
from stockpred.data.splits import Split
from stockpred.score.history import MIN_OWN_TARGETS, History
from tests.stockpred.conftest import MakeBars
from tests.stockpred.score.made_history import HOLE, keep, made_history, vars_of


def known_before(history: History, values: np.ndarray, bar: int) -> np.ndarray:
    past = (np.arange(len(values)) < bar) & (history.asset == history.asset[bar])
    return values[past & np.isfinite(values)]


@pytest.mark.parametrize(
    ("method", "statistic", "least"),
    [
        ("lagged_mean", np.mean, 1),
        ("lagged_sum", np.sum, 1),
        ("lagged_deviation", lambda known: np.std(known, ddof=1), 2),
    ],
)
def test_rolling_statistics_are_those_of_the_last_known_values_before_the_bar(
    method: str, statistic: object, least: int
) -> None:
    history = made_history(num_days=60)
    found = getattr(history, method)(history.change, 7)
    for bar in range(len(history.asset)):
        known = known_before(history, history.change, bar)[-7:]
        expected = statistic(known) if len(known) >= least else np.nan  # type: ignore[operator]
        np.testing.assert_allclose(found[bar], expected, atol=1e-12)


def test_a_weighted_mean_is_that_of_pandas_and_carries_on_over_a_hole() -> None:
    history = made_history()
    square = history.change**2
    start_A = np.linspace(1e-4, 4e-4, history.num_assets)
    found = history.lagged_ewm(square, 0.9, start_A)
    assert np.isnan(square[history.asset == HOLE]).sum() == 2
    for asset, rows in history.runs:
        seeded = pd.Series(np.r_[start_A[asset], square[rows]])
        expected = seeded.ewm(alpha=0.1, adjust=False, ignore_na=True).mean().to_numpy()[:-1]
        np.testing.assert_allclose(found[rows], expected, rtol=1e-12)


def test_a_recursion_follows_its_equation_bar_by_bar() -> None:
    history = keep(made_history(num_days=40), np.arange(40))
    found = history.lagged_recursion(history.close, np.array([0.5]), np.array([7.0]))
    expected = [7.0]
    for close in history.close[:-1]:
        expected.append(close + 0.5 * expected[-1])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def three_assets() -> History:
    """Return three assets of category 0, the last without training, and one of category 1 without any."""
    asset = np.repeat([0, 1, 2, 3], [30, 10, 4, 4])
    split = np.where(asset < 2, Split.TRAIN, Split.TEST).astype(np.int8)
    change = np.select([asset == 0, asset == 1], [0.01, 0.05], 9.0)
    change[[0, 30, 40, 44]] = np.nan
    flat = np.ones(len(asset))
    time = np.concatenate([np.arange(count) for count in (30, 10, 4, 4)])
    return History(flat, flat, flat, flat, flat, change, time, asset, (asset == 3).astype(np.int64), split)


def test_the_usual_value_is_the_assets_own_or_its_categorys_or_that_of_all() -> None:
    history = three_assets()
    pool = (29 * 0.01 + 9 * 0.05) / 38
    assert MIN_OWN_TARGETS > 9
    np.testing.assert_allclose(history.usual(history.change), [0.01, pool, pool, pool])
    np.testing.assert_allclose(history.pooled(history.change), [pool, pool, pool, pool])


def test_without_training_targets_nothing_can_be_fitted() -> None:
    history = made_history(num_days=30)
    none = replace(history, split=np.full_like(history.split, Split.TEST))
    with pytest.raises(UserError, match="training target"):
        none.usual(none.change)


def test_bars_out_of_order_are_refused() -> None:
    history = made_history(num_days=30)
    with pytest.raises(UserError, match="bar 1 of a history does not follow"):
        keep(history, np.r_[1, 0, np.arange(2, 30)])


def test_columns_of_uneven_length_are_refused() -> None:
    columns = vars_of(made_history(num_days=30))
    with pytest.raises(UserError, match="differ in length"):
        History(**(columns | {"close": columns["close"][:-1]}))


def test_checked_bars_give_the_returns_of_pandas_but_none_across_a_break(make_bars: MakeBars) -> None:
    bars = pd.concat([make_bars("A", 60, seed=1), make_bars("B", 60, seed=2)], ignore_index=True)
    bars.loc[30, "close"] = np.nan
    bars.loc[5, "volume"] = -1.0
    checked = quality.check(bars, {"A": "crypto", "B": "crypto"}, max_hole_sessions=5)
    history = History.of(checked, np.zeros(120, np.int8), np.zeros(120, np.int64))
    expected = bars.groupby("symbol")["close"].pct_change(fill_method=None).to_numpy()
    np.testing.assert_allclose(history.change, expected, rtol=1e-12)
    assert np.isnan(history.change[[0, 30, 31, 60]]).all()
    assert np.isnan([history.open[30], history.volume[30], history.volume[5]]).all()
    assert history.split[30] == Split.OUTSIDE
    assert history.targets(Split.TRAIN).tolist() == [*range(1, 30), *range(32, 60), *range(61, 120)]
