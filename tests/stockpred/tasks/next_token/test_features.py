from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stockpred.data import bars as bar_table
from stockpred.data import quality
from stockpred.tasks.next_token import features
from stockpred.tasks.next_token.features import BarFeatures

MakeBars = Callable[..., pd.DataFrame]


def _compute(bars: pd.DataFrame) -> BarFeatures:
    return features.compute(quality.check(bars, dict.fromkeys(bars["symbol"], "crypto"), 5), 60, 20)


def test_features_and_volatility_by_hand(make_bars: MakeBars) -> None:
    bars = make_bars()
    row = 150
    moves = np.log(bars["close"]).diff().to_numpy()[1:row]
    weights = (1 - 2 / 61) ** np.arange(len(moves))[::-1]
    volatility = np.sqrt((weights * moves**2).sum() / weights.sum())
    bar, before = bars.iloc[row], bars.iloc[row - 1]
    expected = [
        np.log(bar.close / before.close) / volatility,
        np.log(bar.open / before.close) / volatility,
        np.log(bar.high / max(bar.open, bar.close)) / volatility,
        np.log(min(bar.open, bar.close) / bar.low) / volatility,
        np.log(bar.volume / bars["volume"].iloc[row - 20 : row].median()),
    ]
    computed = _compute(bars)
    np.testing.assert_allclose(computed.features_NF[row], expected, rtol=1e-9)
    assert computed.volatility[row] == pytest.approx(volatility)


@pytest.mark.parametrize("last", [40, 100, 180])
def test_the_future_changes_no_feature_of_the_past(make_bars: MakeBars, last: int) -> None:
    bars = pd.concat([make_bars(symbol="A"), make_bars(symbol="B", seed=1)], ignore_index=True)
    changed = bars.copy()
    is_later = bars["time"] > bars["time"].iloc[last]
    columns = [*bar_table.PRICES, "volume"]
    noise = np.random.default_rng(3).uniform(0.5, 2.0, (is_later.sum(), 1))
    changed.loc[is_later, columns] *= noise
    plain, perturbed = _compute(bars), _compute(changed)
    past = ~is_later.to_numpy()
    for name in ("features_NF", "volatility", "usual_volume", "close_return", "is_usable"):
        np.testing.assert_array_equal(getattr(plain, name)[past], getattr(perturbed, name)[past])
    assert not np.array_equal(plain.features_NF, perturbed.features_NF, equal_nan=True)


def test_features_of_a_prefix_are_a_prefix_of_the_features(make_bars: MakeBars) -> None:
    bars = make_bars()
    bars.loc[99, "volume"] = 20000.0
    np.testing.assert_array_equal(_compute(bars[:100]).features_NF[:100], _compute(bars).features_NF[:100])


def test_no_feature_spans_a_break(make_bars: MakeBars) -> None:
    bars = make_bars()
    bars.loc[100, list(bar_table.PRICES)] *= 50
    bars.loc[150:, list(bar_table.PRICES)] *= 20
    computed = _compute(bars)
    assert np.flatnonzero(~computed.is_usable).tolist() == [*range(21), 100, 101, 150]
    assert np.abs(computed.close_return[computed.is_usable]).max() < 0.1


def test_unknown_volume_is_neutral(make_bars: MakeBars) -> None:
    bars = make_bars().assign(volume=np.nan)
    assert (_compute(bars).features_NF[:, features.VOLUME] == 0).all()


def test_candles_come_back_from_features(make_bars: MakeBars) -> None:
    bars = make_bars()
    computed = _compute(bars)
    rows = np.flatnonzero(computed.is_usable)
    candles = features.to_candles(
        computed.features_NF[rows],
        bars["close"].to_numpy()[rows - 1],
        computed.volatility[rows],
        computed.usual_volume[rows],
    )
    for name, values in candles.items():
        np.testing.assert_allclose(values, bars[name].to_numpy()[rows], rtol=1e-9)


@given(
    arrays.arrays(np.float64, (5, 5), elements=st.floats(-20, 20)),
    st.floats(1e-6, 1e6),
    st.floats(1e-4, 0.5),
)
def test_every_candle_is_valid_whatever_the_features(
    values: np.ndarray, price: float, volatility: float
) -> None:
    candle = features.to_candles(values, np.full(5, price), np.full(5, volatility))
    assert (candle["low"] <= np.minimum(candle["open"], candle["close"])).all()
    assert (candle["high"] >= np.maximum(candle["open"], candle["close"])).all()
    assert (candle["low"] > 0).all()
