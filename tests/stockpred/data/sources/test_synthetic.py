from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stockpred.config.next_token import NextTokenExperiment
from stockpred.data import quality, universe
from stockpred.data.sources import synthetic

MakeExperiment = Callable[..., NextTokenExperiment]
WriteUniverse = Callable[..., Path]


@pytest.fixture
def bars(make_experiment: MakeExperiment, write_universe: WriteUniverse) -> pd.DataFrame:
    path = write_universe(*(f"C{n},coin,crypto,,," for n in range(12)), "EQ,stock,us_equity,,,")
    experiment = make_experiment(path, data__synthetic__num_bars=2500)
    return synthetic.load(experiment.data, universe.read(path)).bars


@pytest.fixture
def returns(bars: pd.DataFrame) -> pd.DataFrame:
    coins = bars[bars["symbol"] != "EQ"]
    return np.log(coins.pivot(index="time", columns="symbol", values="close")).diff().dropna()


def test_the_same_seed_and_symbol_give_the_same_bars_in_any_company(
    make_experiment: MakeExperiment, write_universe: WriteUniverse
) -> None:
    alone, both = (
        universe.read(write_universe(*rows))
        for rows in (["C1,coin,crypto,,,"], ["A,stock,us_equity,,,", "C1,coin,crypto,,,"])
    )
    config = make_experiment(alone.path).data
    one = synthetic.load(config, alone).bars
    two = synthetic.load(config, both).bars
    pd.testing.assert_frame_equal(one, two[two["symbol"] == "C1"].reset_index(drop=True))
    other = make_experiment(alone.path, data__synthetic__seed=2).data
    assert not synthetic.load(other, alone).bars["close"].equals(one["close"])


def test_more_bars_only_append(make_experiment: MakeExperiment, write_universe: WriteUniverse) -> None:
    assets = universe.read(write_universe("C,coin,crypto,,,", "EQ,stock,us_equity,,,"))
    short, long = (
        synthetic.load(make_experiment(assets.path, data__synthetic__num_bars=count).data, assets).bars
        for count in (300, 500)
    )
    for symbol in assets.symbols:
        own, longer = (bars[bars["symbol"] == symbol].reset_index(drop=True) for bars in (short, long))
        pd.testing.assert_frame_equal(own, longer[:300])


def test_the_last_returns_do_not_undo_the_first(
    make_experiment: MakeExperiment, write_universe: WriteUniverse
) -> None:
    assets = universe.read(write_universe(*(f"C{n},coin,crypto,,," for n in range(200))))
    bars = synthetic.load(make_experiment(assets.path, data__synthetic__num_bars=250).data, assets).bars
    log_close = np.log(bars["close"].to_numpy().reshape(200, 250))
    first, last = log_close[:, 199] - log_close[:, 0], log_close[:, 249] - log_close[:, 199]
    assert stats.pearsonr(first, last).pvalue > 0.001


def test_candles_are_valid_and_the_checks_leave_none_out(bars: pd.DataFrame) -> None:
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert (bars[["low", "volume"]] > 0).all(axis=None)
    assert not quality.check(bars, dict.fromkeys(bars["symbol"].unique(), "crypto"), 5).left_out.any()


def test_each_asset_has_the_bars_asked_for_on_its_own_days(bars: pd.DataFrame) -> None:
    assert bars.groupby("symbol").size().eq(2500).all()
    weekdays = bars.groupby("symbol")["time"].agg(lambda time: set(time.dt.day_of_week))
    assert weekdays["EQ"] == set(range(5))
    assert weekdays["C0"] == set(range(7))


def test_tails_are_fat(returns: pd.DataFrame) -> None:
    assert stats.kurtosis(returns, axis=0).min() > 1.0  # a normal distribution has 0


def test_volatility_clusters_and_returns_do_not(returns: pd.DataFrame) -> None:
    limit = 3 / np.sqrt(len(returns) * returns.shape[1])
    size = returns.abs()
    assert size.apply(lambda r: r.autocorr(1)).mean() > 0.1
    assert size.apply(lambda r: r.autocorr(5)).mean() > 0.1
    assert abs(returns.apply(lambda r: r.autocorr(1)).mean()) < 3 * limit


def test_assets_move_together(returns: pd.DataFrame) -> None:
    correlation = np.corrcoef(returns.T)[np.triu_indices(returns.shape[1], 1)]
    assert 0.25 < correlation.mean() < 0.75


def test_volume_goes_with_volatility_and_lasts(bars: pd.DataFrame, returns: pd.DataFrame) -> None:
    volume = np.log(bars.pivot(index="time", columns="symbol", values="volume")).loc[returns.index]
    for symbol in returns:
        assert stats.spearmanr(volume[symbol], returns[symbol].abs()).statistic > 0.2
        assert volume[symbol].autocorr(1) > 0.4


def test_the_next_bar_can_be_learnt(bars: pd.DataFrame) -> None:
    """A table of (range now -> range next) says more about fresh dates than the frequencies alone."""
    size = np.log(bars["high"] / bars["low"])
    grid = size.groupby(bars["symbol"]).rank(pct=True).mul(7.999).astype(int)
    now, following = grid[:-1].to_numpy(), grid[1:].to_numpy()
    inside = (bars["symbol"].to_numpy()[1:] == bars["symbol"].to_numpy()[:-1]) & (np.arange(len(now)) > 0)
    is_fit = inside & (np.arange(len(now)) % 2500 < 1700)
    is_fresh = inside & (np.arange(len(now)) % 2500 > 1800)
    table = np.ones((8, 8))
    np.add.at(table, (now[is_fit], following[is_fit]), 1)
    conditional = np.log(table / table.sum(axis=1, keepdims=True))[now[is_fresh], following[is_fresh]].mean()
    plain = np.log(table.sum(axis=0) / table.sum())[following[is_fresh]].mean()
    assert conditional > plain + 0.05
