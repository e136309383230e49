from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stockpred.data.factors import cross_section

Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]
NUM_TIMES, NUM_ASSETS = 40, 23


@pytest.fixture
def market() -> pd.DataFrame:
    """Return values, many of them equal or unknown, of 23 assets in three categories, one of them of 4."""
    rng = np.random.default_rng(0)
    rows = pd.MultiIndex.from_product([range(NUM_ASSETS), range(NUM_TIMES)], names=["asset", "time"])
    table = rows.to_frame(index=False)
    table["category"] = np.select([table["asset"] < 4, table["asset"] < 12], ["small", "middle"], "large")
    table["value"] = rng.integers(0, 6, len(table)) * 0.1
    table.loc[rng.random(len(table)) < 0.2, "value"] = np.nan
    table.loc[(table["time"] == 7) & table["value"].notna(), "value"] = 0.1
    table["group"] = cross_section.groups(table["time"].to_numpy(), table["category"].to_numpy())
    return table[rng.random(len(table)) < 0.95].reset_index(drop=True)


def test_groups_are_those_of_equal_time_and_category(market: pd.DataFrame) -> None:
    pairs = market.groupby(["time", "category"])["group"].agg(["nunique", "first"])
    assert (pairs["nunique"] == 1).all()
    assert pairs["first"].is_unique


def test_ranks_equal_those_of_pandas(market: pd.DataFrame) -> None:
    groups = market.groupby(["time", "category"])["value"]
    num_known = groups.transform("count")
    expected = ((groups.rank(method="average") - (num_known + 1) / 2) / num_known).where(num_known >= 5)
    found = cross_section.rank(market["value"].to_numpy(), market["group"].to_numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    assert 0.4 < np.isfinite(found).mean() < 0.8


def test_z_scores_equal_those_of_scipy(market: pd.DataFrame) -> None:
    found = cross_section.z_score(market["value"].to_numpy(), market["group"].to_numpy())
    for _, rows in market.groupby(["time", "category"]):
        values, scores = rows["value"].to_numpy(), found[rows.index]
        if np.isfinite(values).sum() < 5:
            assert np.isnan(scores).all()
        elif np.nanmax(values) == np.nanmin(values):
            np.testing.assert_array_equal(scores, np.where(np.isnan(values), np.nan, 0))
        else:
            np.testing.assert_allclose(scores, stats.zscore(values, ddof=1, nan_policy="omit"), atol=1e-12)


def test_ranks_by_hand() -> None:
    values = np.array([3.0, 1.0, np.nan, 1.0, 9.0, 2.0, np.inf])
    expected = [1 / 5, -1.5 / 5, np.nan, -1.5 / 5, 2 / 5, 0, np.nan]
    np.testing.assert_allclose(cross_section.rank(values, np.zeros(7, np.int64)), expected, atol=1e-15)


@pytest.mark.parametrize("compare", [cross_section.rank, cross_section.z_score])
@pytest.mark.parametrize(("num_assets", "has_values"), [(4, False), (5, True)])
def test_four_assets_are_no_cross_section(compare: Compare, num_assets: int, has_values: bool) -> None:
    values = np.r_[np.arange(num_assets, dtype=float), np.nan]
    found = compare(values, np.zeros(len(values), np.int64))
    assert np.isfinite(found[:-1]).tolist() == [has_values] * num_assets
    assert np.isnan(found[-1])


@pytest.mark.parametrize("compare", [cross_section.rank, cross_section.z_score])
def test_equal_values_get_0(compare: Compare) -> None:
    assert compare(np.full(7, 0.1), np.zeros(7, np.int64)).tolist() == [0.0] * 7


@pytest.mark.parametrize("compare", [cross_section.rank, cross_section.z_score])
def test_nothing_known_is_nothing_compared(compare: Compare) -> None:
    assert np.isnan(compare(np.full(9, np.nan), np.zeros(9, np.int64))).all()
    assert compare(np.empty(0), np.empty(0, np.int64)).shape == (0,)
