"""A regressor's scores: figures by hand, persistence on real bars by pandas, honest verdicts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpc.base.errors import UserError
from stockpred.data.splits import Split
from stockpred.score.claims import Claim, Verdict
from stockpred.score.compare import SQUARED_ERROR
from stockpred.score.field import Field
from stockpred.score.history import History
from stockpred.score.metrics import EvaluatedModel
from stockpred.score.results import SplitScores
from stockpred.score.rival import Kind
from stockpred.tasks.forecast import evaluate
from stockpred.tasks.forecast.dataset import AssetSeries

DAY_NS = 86_400_000_000_000
MLP = EvaluatedModel("mlp", 8449, 40)
NUM_TRAINING = 200

PROTOCOL = {
    "AAPL": (5.7225, 1.7749, 0.98009, 0.5428),
    "AMZN": (6.4895, 1.9152, 0.99303, 0.5374),
    "JNJ": (2.2751, 1.0564, 0.93607, 0.4920),
    "JPM": (3.6241, 1.3548, 0.99350, 0.5695),
    "MSFT": (22.750, 3.6806, 0.99344, 0.5455),
    "TSLA": (45.694, 5.0203, 0.97020, 0.5187),
    "XOM": (2.2102, 1.1368, 0.93926, 0.5107),
    "^GSPC": (1201.58, 27.163, 0.99411, 0.5508),
}
"""Persistence from 2023-01-01 to 2024-06-28, 374 days: MSE, MAE, R2, and up days among all days."""


def series_of(close: np.ndarray, split: np.ndarray, time: np.ndarray | None = None) -> AssetSeries:
    """Return a series of one stretch."""
    num_bars = len(close)
    return AssetSeries(
        symbol="WALK",
        category="us_equity",
        kind="changes",
        features=("close",),
        inputs_NF=np.zeros((num_bars, 1), np.float32),
        time=np.arange(num_bars) * DAY_NS if time is None else time,
        close=close,
        stretch_start=np.zeros(num_bars, np.int64),
        row=np.arange(num_bars),
        split=split.astype(np.int8),
        target_mean=0.0,
        target_scale=1.0,
    )


def field_of(series: AssetSeries) -> Field:
    close = series.close
    history = History(
        open=close,
        high=close,
        low=close,
        close=close,
        volume=np.full(len(close), np.nan),
        change=np.r_[np.nan, close[1:] / close[:-1] - 1.0],
        time=series.time,
        asset=np.zeros(len(close), np.int64),
        category=np.zeros(len(close), np.int64),
        split=series.split,
    )
    return Field(history, (Kind.POINT,))


def scored(series: AssetSeries, expected_M: np.ndarray) -> tuple[SplitScores, pd.DataFrame]:
    samples = series.samples(Split.TEST)
    price = series.close[samples] * (1.0 + expected_M)
    return evaluate.score(series, samples, price, split=Split.TEST, evaluated=MLP, field=field_of(series))


def walk(num_bars: int = 400, seed: int = 0, mean: float = 0.0) -> tuple[AssetSeries, np.ndarray]:
    """Return a random walk after a training period of its kind, and the returns of its test."""
    rng = np.random.default_rng(seed)
    returns = mean + 0.02 * rng.standard_normal(NUM_TRAINING + num_bars)
    split = np.repeat([Split.TRAIN, Split.TEST], (NUM_TRAINING, num_bars))
    return series_of(100.0 * np.cumprod(1.0 + returns), split), returns[NUM_TRAINING:]


def claim_of(scores: SplitScores) -> Claim:
    claim = scores.pooled.claim(SQUARED_ERROR)
    assert claim is not None
    return claim


def test_every_figure_of_a_case_done_by_hand() -> None:
    """Returns +10 %, -10 %, 0, +10 %; forecast +5 %, -1 %, +2 %, -1 %."""
    close = np.array([100.0, 101.0, 100.0, 110.0, 99.0, 99.0, 108.9])
    series = series_of(close, np.array([0, 0, 0, 2, 2, 2, 2]))
    scores, table = scored(series, np.array([0.05, -0.01, 0.02, -0.01]))
    found = scores.pooled.model
    assert found.price is not None
    assert found.price.mse == pytest.approx((25 + 98.01 + 3.9204 + 118.5921) / 4)
    assert found.price.mae == pytest.approx((5 + 9.9 + 1.98 + 10.89) / 4)
    assert found.skill == pytest.approx(1 - 231 / 300)
    rivals = {rival.name: rival for rival in scores.pooled.rivals}
    assert set(rivals) == {"last_value", "drift", "always_up"}
    drift = (0.01 + (100 / 101 - 1)) / 2
    errors = (np.array([0.1, -0.1, 0.0, 0.1]) - drift) ** 2
    assert rivals["drift"].rmse_bp == pytest.approx(1e4 * math.sqrt(errors.mean()))
    assert rivals["last_value"].skill == 0.0
    assert rivals["always_up"].direction is not None
    assert rivals["always_up"].direction.share == pytest.approx(2 / 3)
    np.testing.assert_allclose(table["realised_return"], [0.1, -0.1, 0.0, 0.1], atol=1e-12)
    np.testing.assert_allclose(table["expected_return"], [0.05, -0.01, 0.02, -0.01])
    assert list(table["previous_close"]) == [100.0, 110.0, 99.0, 99.0]
    assert (table["time"] - table["known_at"] == pd.Timedelta(days=1)).all()


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.3, Verdict.BETTER), (0.0, Verdict.UNDECIDED), (-0.3, Verdict.WORSE)]
)
def test_skill_is_claimed_only_where_every_interval_says_so(share: float, verdict: Verdict) -> None:
    series, returns = walk()
    scores, _ = scored(series, share * returns)
    assert claim_of(scores).verdict is verdict
    assert scores.pooled.model.skill == pytest.approx(1 - (1 - share) ** 2)


def test_a_constant_that_beats_the_last_value_but_not_the_drift_is_no_skill() -> None:
    """What the measured ^GSPC mlp did: 2.56 bp +- 0.11 bp, always up, p 0.025 against the last close."""
    series, returns = walk(2000, seed=3, mean=0.003)
    constant = 0.003 + 1e-5 * np.random.default_rng(0).standard_normal(len(returns))
    scores, _ = scored(series, constant)
    claim = claim_of(scores)
    against_last_value = claim.differences["last_value"]
    assert against_last_value is not None
    assert against_last_value.p_value < 0.05
    assert (claim.verdict, claim.hardest) == (Verdict.UNDECIDED, "drift")
    assert scores.pooled.model.always == "up"
    assert scores.pooled.model.spread_bp == pytest.approx(0.1, rel=0.1)


def test_noise_is_called_better_no_more_often_than_chance_allows() -> None:
    told = 0
    for seed in range(120):
        series, returns = walk(374, seed)
        noise = 0.003 * np.random.default_rng([seed, 1]).standard_normal(len(returns))
        told += claim_of(scored(series, noise)[0]).is_better
    assert told / 120 <= 0.04


@pytest.mark.parametrize("symbol", PROTOCOL)
def test_persistence_and_always_up_on_real_bars_are_those_that_pandas_gives(
    real_bars: Path, symbol: str
) -> None:
    bars = pd.read_parquet(real_bars / "market_daily.parquet", filters=[("asset", "==", symbol)])
    bars = bars.sort_values("date")
    is_test = (bars["date"] >= "2023-01-01").to_numpy()
    time = bars["date"].astype("datetime64[ns]").astype("int64").to_numpy()
    split = np.where(is_test, Split.TEST, Split.TRAIN)
    scores, _ = scored(series_of(bars["close"].to_numpy(), split, time), np.full(is_test.sum(), 0.001))
    group = scores.pooled
    still, up = group.rival("last_value"), group.rival("always_up").direction
    mse, mae, r2, up_share = PROTOCOL[symbol]
    assert (group.num_bars, group.first_time, group.last_time) == (374, "2023-01-03", "2024-06-28")
    assert still.price is not None
    assert (still.price.mse, still.price.mae) == pytest.approx((mse, mae), rel=1e-4)
    assert still.price.r_squared == pytest.approx(r2, abs=1e-5)
    change = bars["close"].diff()[is_test]
    assert up is not None
    assert (change > 0).mean() == pytest.approx(up_share, abs=1e-4)
    assert up.share == pytest.approx((change > 0).sum() / (change != 0).sum())
    returns = bars["close"].pct_change()[is_test]
    assert still.r_squared == pytest.approx(1 - (returns**2).sum() / (374 * returns.var(ddof=0)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_forecast_that_is_no_number_is_one_clear_error(value: float) -> None:
    series, returns = walk(40)
    expected = 0.0 * returns
    expected[[3, 7]] = value
    with pytest.raises(UserError, match="mlp forecasts no number for 2 of 40 bars"):
        scored(series, expected)


def test_a_single_bar_and_a_price_that_never_moves_make_no_claim() -> None:
    few = series_of(np.array([100.0, 101.0, 100.0, 110.0]), np.array([0, 0, 0, 2]))
    still = series_of(np.full(40, 7.0), np.repeat([0, 2], 20))
    for series in (few, still):
        scores, _ = scored(series, np.zeros(len(series.samples(Split.TEST))))
        assert not claim_of(scores).is_better
        assert scores.pooled.model.skill_interval is None


def test_bars_within_a_day_count_as_one_date() -> None:
    rng = np.random.default_rng(0)
    returns = 0.02 * rng.standard_normal(800)
    split = np.repeat([Split.TRAIN, Split.TEST], 400)
    hourly = series_of(100 * np.cumprod(1 + returns), split, np.arange(800) * DAY_NS // 8)
    scores, _ = scored(hourly, 0.1 * returns[400:])
    assert scores.pooled.num_dates == 50
    interval = scores.pooled.model.skill_interval
    assert interval is not None
    assert interval.num_groups == 50
