"""A regressor's test: figures by hand, persistence on real bars by pandas, every bar once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.score import metrics
from stockpred.score.metrics import EvaluatedModel
from stockpred.tasks.forecast import results as results
from stockpred.tasks.forecast.evaluate import Forecasts, evaluate_test, score
from stockpred.tasks.forecast.results import BETTER, UNDECIDED, WORSE, ForecastScores

DAY_NS = 86_400_000_000_000
MLP = EvaluatedModel("mlp", 8449, 40)
BY_HAND = Forecasts(
    symbol="XYZ",
    category="us_equity",
    time=np.arange(4) * DAY_NS,
    previous_close=np.array([100.0, 110.0, 99.0, 99.0]),
    close=np.array([110.0, 99.0, 99.0, 108.9]),
    forecast=np.array([105.0, 108.9, 100.98, 98.01]),
)
"""Returns +10 %, -10 %, 0, +10 %; forecast +5 %, -1 %, +2 %, -1 %."""

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


def random_walk(num_bars: int = 400, seed: int = 0, share: float = 0.0) -> Forecasts:
    """Return a walk whose forecast knows this share of each return."""
    rng = np.random.default_rng(seed)
    returns = 0.02 * rng.standard_normal(num_bars)
    close = 100.0 * np.cumprod(1.0 + returns)
    previous = close / (1.0 + returns)
    return Forecasts(
        "WALK", "us_equity", np.arange(num_bars) * DAY_NS, previous, close, previous * (1.0 + share * returns)
    )


def test_every_figure_of_a_case_done_by_hand() -> None:
    found = score(BY_HAND, drift=0.01, evaluated=MLP).model
    assert found.mse_price == pytest.approx((25 + 98.01 + 3.9204 + 118.5921) / 4)
    assert found.mae_price == pytest.approx((5 + 9.9 + 1.98 + 10.89) / 4)
    mean = (110 + 99 + 99 + 108.9) / 4
    spread = sum((close - mean) ** 2 for close in (110, 99, 99, 108.9))
    assert found.r2_price == pytest.approx(1 - 245.5225 / spread)
    assert found.mse_return == pytest.approx((25 + 81 + 4 + 121) * 1e-4 / 4)
    assert found.mae_return == pytest.approx((5 + 9 + 2 + 11) * 1e-2 / 4)
    assert found.r2_return == pytest.approx(1 - 231e-4 / sum((r - 0.025) ** 2 for r in (0.1, -0.1, 0, 0.1)))
    assert found.skill == pytest.approx(1 - 245.5225 / (100 + 121 + 98.01))
    assert found.skill_return == pytest.approx(1 - 231 / 300)
    assert found.direction is not None
    assert (found.direction.share, found.direction.num_trials) == (pytest.approx(2 / 3), 3)


def test_the_rivals_of_a_case_done_by_hand() -> None:
    found = score(BY_HAND, drift=0.01, evaluated=MLP)
    still, drift, up = (found.rival(name) for name in ("persistence", "drift", "always_up"))
    assert (still.mse_price, still.skill, still.skill_return) == (pytest.approx(319.01 / 4), 0.0, 0.0)
    assert still.r2_return == pytest.approx(1 - 0.03 / 0.0275)
    assert (still.versus_persistence, still.skill_interval, still.direction) == (None, None, None)
    assert drift.mse_return == pytest.approx((81 + 121 + 1 + 81) * 1e-4 / 4)
    assert up.direction is not None
    assert (up.direction.share, up.direction.num_trials) == (pytest.approx(2 / 3), 3)
    assert {up.mse_price, up.mae_return, up.skill, up.r2_price} == {None}


def test_diebold_mariano_is_the_t_of_the_loss_difference_over_its_first_cosines() -> None:
    walk = random_walk(seed=1, share=0.1)
    versus = score(walk, drift=0.0, evaluated=MLP).model.versus_persistence
    assert versus is not None
    difference = (walk.forecast - walk.close) ** 2 - (walk.previous_close - walk.close) ** 2
    num, count = len(difference), round(0.4 * len(difference) ** (2 / 3))
    waves = np.cos(math.pi * np.outer(np.arange(1, count + 1), np.arange(num) + 0.5) / num)
    variance = np.mean((math.sqrt(2 / num) * waves @ difference) ** 2)
    t = difference.mean() / math.sqrt(variance / num)
    assert versus.p_value == pytest.approx(2 * stats.t(count).sf(abs(t)))
    assert versus.mean == pytest.approx(difference.mean())


@pytest.mark.parametrize(("share", "told"), [(0.3, BETTER), (0.0, UNDECIDED), (-0.3, WORSE)])
def test_skill_is_claimed_only_where_the_whole_interval_says_so(share: float, told: str) -> None:
    found = score(random_walk(share=share), drift=0.0, evaluated=MLP)
    assert found.skill_in_words == told
    if share:
        assert found.model.skill_return == pytest.approx(1 - (1 - share) ** 2)


def test_an_interval_that_holds_zero_claims_nothing_however_good_the_skill() -> None:
    row = score(random_walk(share=0.3), drift=0.0, evaluated=MLP).model
    assert row.skill_interval is not None
    wide = replace(row.skill_interval, low=-1e-9)
    assert replace(row, skill_interval=wide).skill_in_words == UNDECIDED
    assert replace(row, skill_interval=None).skill_in_words == UNDECIDED


def test_noise_is_called_better_no_more_often_than_chance_allows() -> None:
    told = []
    for seed in range(300):
        walk = random_walk(374, seed)
        noise = 1.0 + 0.003 * np.random.default_rng([seed, 1]).standard_normal(374)
        told.append(score(replace(walk, forecast=walk.previous_close * noise), drift=0.0, evaluated=MLP))
    assert sum(one.skill_in_words == BETTER for one in told) / 300 <= 0.03


def test_the_model_that_repeats_the_last_close_has_persistences_figures_and_no_claim() -> None:
    walk = random_walk()
    found = score(walk, drift=0.0, evaluated=MLP)
    still = found.rival("persistence")
    assert replace(found.model, name=still.name, label=still.label) == still


@pytest.mark.parametrize("symbol", PROTOCOL)
def test_persistence_and_always_up_on_real_bars_are_those_that_pandas_gives(
    real_bars: Path, symbol: str
) -> None:
    bars = pd.read_parquet(real_bars / "market_daily.parquet", filters=[("asset", "==", symbol)])
    bars = bars.sort_values("date")
    before = bars["close"].shift(1)
    test = bars["date"] >= "2023-01-01"
    found = score(
        Forecasts(
            symbol,
            "us_equity",
            bars["date"][test].astype("datetime64[ns]").astype("int64").to_numpy(),
            before[test].to_numpy(),
            bars["close"][test].to_numpy(),
            before[test].to_numpy() * 1.001,
        ),
        drift=0.0,
        evaluated=MLP,
    )
    still, up = found.rival("persistence"), found.rival("always_up").direction
    mse, mae, r2, up_share = PROTOCOL[symbol]
    assert (found.num_bars, found.first_time, found.last_time) == (374, "2023-01-03", "2024-06-28")
    assert (still.mse_price, still.mae_price) == pytest.approx((mse, mae), rel=1e-4)
    assert still.r2_price == pytest.approx(r2, abs=1e-5)
    change = bars["close"].diff()[test]
    assert up is not None
    assert (change > 0).mean() == pytest.approx(up_share, abs=1e-4)
    assert (up.share, up.num_trials) == (
        pytest.approx((change > 0).sum() / (change != 0).sum()),
        (change != 0).sum(),
    )
    assert still.r2_return == pytest.approx(
        1
        - (bars["close"].pct_change()[test] ** 2).sum() / (374 * bars["close"].pct_change()[test].var(ddof=0))
    )


def test_the_table_has_one_row_per_test_bar_oldest_first_with_simple_returns(tmp_path: Path) -> None:
    backwards = {
        name: getattr(BY_HAND, name)[::-1] for name in ("time", "previous_close", "close", "forecast")
    }
    found = evaluate_test(replace(BY_HAND, **backwards), drift=0.01, paths=RunPaths(tmp_path), evaluated=MLP)
    table = pd.read_parquet(RunPaths(tmp_path).predictions)
    assert list(table.columns) == [
        *("symbol", "category", "time", "previous_close", "close", "forecast"),
        *("forecast_return", "realised_return"),
    ]
    assert table["time"].is_monotonic_increasing
    assert str(table["time"].dt.tz) == "UTC"
    np.testing.assert_allclose(table["forecast_return"], [0.05, -0.01, 0.02, -0.01])
    np.testing.assert_allclose(table["realised_return"], [0.1, -0.1, 0.0, 0.1], atol=1e-15)
    assert results.read(RunPaths(tmp_path).test_results) == found == score(BY_HAND, drift=0.01, evaluated=MLP)


def test_the_guard_stands_before_each_file(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def lost() -> None:
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        if len(seen) == 2:
            raise UserError("another attempt holds this run")

    with pytest.raises(UserError, match="another attempt"):
        evaluate_test(BY_HAND, drift=0.0, paths=RunPaths(tmp_path), evaluated=MLP, check_lease=lost)
    assert seen == [[], ["predictions.parquet"]]
    assert not RunPaths(tmp_path).test_results.exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_forecast_that_is_no_number_is_one_clear_error(tmp_path: Path, value: float) -> None:
    wrong = replace(BY_HAND, forecast=np.array([1.0, value, 2.0, value]))
    with pytest.raises(UserError, match="mlp forecasts no number for 2 of 4 test bars"):
        evaluate_test(wrong, drift=0.0, paths=RunPaths(tmp_path), evaluated=MLP)
    assert list(tmp_path.iterdir()) == []


def test_no_test_bar_is_one_clear_error(tmp_path: Path) -> None:
    none = {name: getattr(BY_HAND, name)[:0] for name in ("time", "previous_close", "close", "forecast")}
    with pytest.raises(UserError, match="no bar to score"):
        evaluate_test(replace(BY_HAND, **none), drift=0.0, paths=RunPaths(tmp_path), evaluated=MLP)


def test_a_bar_that_is_forecast_twice_is_refused(tmp_path: Path) -> None:
    twice = replace(BY_HAND, time=np.array([0, 1, 1, 2]) * DAY_NS)
    with pytest.raises(RuntimeError, match="exactly once"):
        evaluate_test(twice, drift=0.0, paths=RunPaths(tmp_path), evaluated=MLP)


def test_a_single_bar_and_a_price_that_never_moves_make_no_claim() -> None:
    one = {name: getattr(BY_HAND, name)[:1] for name in ("time", "previous_close", "close", "forecast")}
    level = np.full(4, 7.0)
    still = replace(BY_HAND, previous_close=level, close=level)
    for few in (replace(BY_HAND, **one), still):
        found = score(few, drift=0.0, evaluated=MLP)
        assert found.skill_in_words == UNDECIDED
        assert found.model.skill_interval is None
    assert score(still, drift=0.0, evaluated=MLP).model.skill is None


def test_bars_within_a_day_count_as_one_group() -> None:
    hourly = replace(random_walk(share=0.1), time=np.arange(400) * DAY_NS // 8)
    found = score(hourly, drift=0.0, evaluated=MLP)
    assert (found.num_dates, found.bars) == (50, "bars")
    assert found.model.skill_interval is not None
    assert found.model.skill_interval.num_groups == 50


def test_a_row_says_nothing_by_none_and_not_by_a_number() -> None:
    row: ForecastScores = score(BY_HAND, drift=0.0, evaluated=MLP).rival("always_up")
    assert [name for name, value in vars(row).items() if value is not None] == ["name", "label", "direction"]


def test_the_skill_of_the_interval_is_the_skill_of_the_row() -> None:
    row = score(random_walk(share=0.2), drift=0.0, evaluated=MLP).model
    assert row.skill_interval is not None
    assert row.skill == pytest.approx(row.skill_interval.mean)
    walk = random_walk(share=0.2)
    loss, still = (walk.forecast - walk.close) ** 2, (walk.previous_close - walk.close) ** 2
    assert row.skill == pytest.approx(metrics.skill(loss, still))
