"""Claims: better than every rival or not at all, and how rarely luck passes for it."""

from __future__ import annotations

import numpy as np
import pytest

from stockpred.score import claims, inference
from stockpred.score.claims import Claim, Verdict
from stockpred.score.inference import Estimate

DATES = np.arange(250)


def estimate(low: float, high: float, p_value: float = 0.01) -> tuple[float, Estimate | None]:
    mean = (low + high) / 2
    return mean, Estimate(mean, 1.0, low, high, p_value, 100)


@pytest.mark.parametrize(
    ("intervals", "verdict", "hardest"),
    [
        ([(-3, -1), (-2, -0.5)], Verdict.BETTER, "1"),
        ([(-3, -1), (-2, 0.5)], Verdict.UNDECIDED, "1"),
        ([(0.1, 0.5), (-2, -0.5)], Verdict.WORSE, "0"),
        ([(-9, 1.0), (-0.5, 0.9)], Verdict.UNDECIDED, "0"),
    ],
)
def test_the_model_is_better_only_where_every_interval_says_so(
    intervals: list[tuple[float, float]], verdict: Verdict, hardest: str
) -> None:
    claim = claims.of("crps_bp", {str(place): estimate(*ends) for place, ends in enumerate(intervals)})
    assert (claim.verdict, claim.hardest) == (verdict, hardest)
    assert claim.is_better == (verdict is Verdict.BETTER)
    assert claim.difference == claim.differences[hardest]


def test_one_rival_without_an_interval_leaves_no_claim() -> None:
    claim = claims.of("crps_bp", {"easy": estimate(-3, -1), "few": (-2.0, None)})
    assert claim.verdict is Verdict.TOO_FEW_DATES
    assert claim.p_value is None
    assert claim.mean_difference == claim.mean_differences[claim.hardest]


def test_the_p_value_is_that_of_the_rival_that_is_beaten_least() -> None:
    beaten = {"one": estimate(-3, -1, 0.001), "two": estimate(-3, -1, 0.02)}
    assert claims.of("nats", beaten).p_value == 0.02
    assert claims.of("nats", beaten | {"three": estimate(-1, 3, 0.4)}).p_value == 1.0


def claim_of(losses: np.ndarray) -> Claim:
    """Return the claim of the first column over the others."""
    differences = {
        str(rival): (
            float((own := losses[:, 0] - losses[:, rival]).mean()),
            inference.mean_by_group(own, DATES),
        )
        for rival in range(1, losses.shape[1])
    }
    return claims.of("squared_error", differences)


@pytest.mark.parametrize("num_rivals", [1, 2, 6])
def test_a_model_no_better_than_its_best_rival_is_called_better_as_rarely_as_one_test_allows(
    num_rivals: int,
) -> None:
    rng = np.random.default_rng(num_rivals)
    better = 0
    for _ in range(800):
        losses = rng.standard_normal((250, num_rivals + 1))
        losses[:, 2:] += 0.3  # the first rival is as good as the model
        better += claim_of(losses).is_better
    assert better / 800 <= 0.04


def test_a_model_that_is_better_than_all_is_called_so() -> None:
    losses = np.random.default_rng(0).standard_normal((250, 4))
    losses[:, 0] -= 0.5
    assert claim_of(losses).is_better
