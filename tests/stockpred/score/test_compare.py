"""The model beside its rivals: figures by hand and by other libraries, groups, unseen assets, bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hpc.base.errors import UserError
from stockpred.data.splits import Split
from stockpred.score import compare, inference, results
from stockpred.score.claims import Verdict
from stockpred.score.compare import BarScores, score_split
from stockpred.score.forecasts import Outcomes
from stockpred.score.metrics import EvaluatedModel

DAY = 86_400_000_000_000
MODEL = EvaluatedModel("mlp", 10, 7)
STILL = "last_value"


def outcomes(returns_AD: np.ndarray, *, unseen: tuple[int, ...] = ()) -> Outcomes:
    """Return the bars of A assets on D days; the first half of the assets are coins."""
    num_assets, num_days = returns_AD.shape
    asset = np.repeat(np.arange(num_assets), num_days)
    time = np.tile(np.arange(num_days) * DAY, num_assets)
    return Outcomes(
        split=Split.TEST,
        symbols=tuple(f"A{index}" for index in range(num_assets)),
        categories=("coin", "share"),
        asset=asset,
        category=(asset >= (num_assets + 1) // 2).astype(np.int64),
        known_at=time - DAY,
        time=time,
        previous_close=np.full(len(asset), 50.0),
        realised_return=returns_AD.ravel(),
        is_unseen=np.isin(asset, unseen),
    )


def point(name: str, expected: np.ndarray) -> BarScores:
    return BarScores(name, name.replace("_", " "), expected_return=expected)


@pytest.fixture
def market() -> Outcomes:
    return outcomes(0.02 * np.random.default_rng(0).standard_normal((8, 60)))


def test_the_figures_of_a_case_done_by_hand() -> None:
    bars = outcomes(np.array([[0.10, -0.10, 0.0, 0.10]]))
    expected = np.array([0.05, -0.01, 0.02, -0.01])
    scores = score_split(MODEL, bars, point("mlp", expected), [point(STILL, np.zeros(4))], with_prices=True)
    found = scores.pooled.model
    assert found.mae_bp == pytest.approx((500 + 900 + 200 + 1100) / 4)
    assert found.rmse_bp == pytest.approx(np.sqrt((25 + 81 + 4 + 121) / 4) * 100)
    assert found.skill == pytest.approx(1 - 231 / 300)
    assert found.r_squared == pytest.approx(1 - 231e-4 / sum((r - 0.025) ** 2 for r in (0.1, -0.1, 0, 0.1)))
    assert found.direction is not None
    assert (found.direction.share, found.direction.num_trials) == (pytest.approx(2 / 3), 3)
    assert found.spread_bp == pytest.approx(1e4 * expected.std())
    assert found.always is None
    assert found.price is not None
    assert found.price.mse == pytest.approx(2500 * 231e-4 / 4)
    assert found.price.mae == pytest.approx(50 * 27e-2 / 4)
    claim = scores.pooled.claim(compare.SQUARED_ERROR)
    assert claim is not None
    assert claim.verdict is Verdict.TOO_FEW_DATES
    assert claim.mean_difference == pytest.approx((231 - 300) / 4)


def test_a_constant_that_beats_zero_but_not_the_drift_is_no_skill(market: Outcomes) -> None:
    """Returns drift upwards; the model has learnt the drift and nothing else."""
    rising = replace(market, realised_return=market.realised_return + 0.004)
    almost = 0.004 + 1e-5 * np.random.default_rng(1).standard_normal(len(rising))
    rivals = [point(STILL, np.zeros(len(rising))), point("drift", np.full(len(rising), 0.004))]
    group = score_split(MODEL, rising, point("mlp", almost), rivals).pooled
    claim = group.claim(compare.SQUARED_ERROR)
    assert claim is not None
    beaten = claim.differences[STILL]
    assert beaten is not None
    assert beaten.high < 0.0
    assert (claim.verdict, claim.hardest) == (Verdict.UNDECIDED, "drift")
    assert group.model.always == "up"
    assert group.model.spread_bp == pytest.approx(0.1, rel=0.2)


def test_differences_are_those_of_diebold_and_mariano_by_date(market: Outcomes) -> None:
    expected = 0.3 * market.realised_return
    group = score_split(MODEL, market, point("mlp", expected), [point(STILL, np.zeros(480))]).pooled
    claim = group.claim(compare.SQUARED_ERROR)
    assert claim is not None
    losses = [(100 * (own - market.realised_return)) ** 2 for own in (expected, 0.0)]
    assert claim.difference == inference.diebold_mariano(losses[0], losses[1], market.date)
    assert claim.verdict is Verdict.BETTER


def test_rank_ic_is_scipys_and_its_claim_is_about_the_dates_difference(market: Outcomes) -> None:
    rng = np.random.default_rng(3)
    expected = market.realised_return + 0.02 * rng.standard_normal(480)
    signal = rng.standard_normal(480)
    rival = BarScores("reversal_1", "reversal", signal=signal)
    group = score_split(MODEL, market, point("mlp", expected), [rival]).pooled

    def by_day(values: np.ndarray) -> np.ndarray:
        shaped = values.reshape(8, 60), market.realised_return.reshape(8, 60)
        return np.array([stats.spearmanr(shaped[0][:, day], shaped[1][:, day])[0] for day in range(60)])

    assert group.model.rank_ic is not None
    assert group.model.rank_ic.mean == pytest.approx(by_day(expected).mean())
    claim = group.claim(compare.RANK_IC)
    assert claim is not None
    difference = by_day(signal) - by_day(expected)
    expected_estimate = inference.mean_by_group(difference, np.arange(60))
    assert expected_estimate is not None
    assert claim.difference is not None
    assert claim.difference.low == pytest.approx(expected_estimate.low)
    assert claim.mean_difference == pytest.approx(difference.mean())


def test_categories_have_their_own_scores_and_unseen_assets_are_in_no_other_group() -> None:
    bars = outcomes(0.02 * np.random.default_rng(0).standard_normal((8, 60)), unseen=(1, 7))
    wild = np.where(bars.is_unseen, 5.0, 0.0)  # an absurd forecast, but only of unseen assets
    scores = score_split(MODEL, bars, point("mlp", wild), [point(STILL, np.zeros(480))])
    assert scores.pooled.num_bars == 6 * 60
    assert scores.pooled.model.skill == 0.0
    assert {group.name: group.num_assets for group in scores.categories} == {"coin": 3, "share": 3}
    assert {group.name: group.num_assets for group in scores.unseen} == {"coin": 1, "share": 1}
    assert all(group.model.skill is not None and group.model.skill < -100 for group in scores.unseen)


def test_a_universe_of_unseen_assets_alone_is_still_scored() -> None:
    bars = outcomes(np.full((2, 30), 0.01), unseen=(0, 1))
    scores = score_split(MODEL, bars, point("mlp", np.zeros(60)), [point(STILL, np.zeros(60))])
    assert scores.categories == ()
    assert scores.pooled.num_bars == 60


def test_what_is_written_is_what_is_read(market: Outcomes, tmp_path: Path) -> None:
    crps = np.abs(market.realised_return)
    model = BarScores("gpt", "gpt", nats=crps, crps=crps, log_loss=-crps, pit=np.full(480, 0.4))
    scores = score_split(MODEL, market, model, [point(STILL, np.zeros(480))], fitted={"ewma": {"decay": 0.9}})
    results.write(tmp_path / "results.json", scores)
    assert results.read(tmp_path / "results.json") == scores


def test_bad_input_is_refused(market: Outcomes) -> None:
    model, rivals = point("mlp", np.zeros(480)), [point(STILL, np.zeros(480))]
    with pytest.raises(UserError, match="the test period has no bar to score"):
        score_split(MODEL, market.at(np.arange(0)), model, rivals)
    with pytest.raises(RuntimeError, match="scored twice"):
        score_split(MODEL, market.at(np.r_[0, np.arange(479)]), model, rivals)
    with pytest.raises(RuntimeError, match="was not scored on the 480 bars"):
        score_split(MODEL, market, model, [point(STILL, np.zeros(479))])
