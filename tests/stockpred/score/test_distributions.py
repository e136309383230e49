"""Predictive distributions against scipy, scoringrules, numerical integration and hand calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scoringrules
from scipy import integrate, stats

from stockpred.score.distributions import (
    Density,
    Distribution,
    Normal,
    PointMass,
    ScaledShape,
    Shape,
    StudentT,
)

LEVELS = (0.05, 0.25, 0.5, 0.9)
OUTCOMES = np.array([-0.31, -0.02, 0.0, 0.013, 0.2])
LOCATION = np.array([0.0, 0.001, -0.02, 0.0, 0.01])
SCALE = np.array([0.02, 0.01, 0.05, 1e-4, 0.3])
DEGREES = np.array([1.5, 3.0, 5.0, 30.0, 3.0])


def sample(seed: int = 0, count: int = 5000) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, count)


def every_kind() -> list[Distribution]:
    return [
        PointMass(LOCATION),
        Normal(LOCATION, SCALE),
        StudentT(DEGREES, LOCATION, SCALE),
        ScaledShape(Shape.of(sample()), SCALE),
    ]


def by_integration(cdf: object, outcome: float) -> float:
    """Integrate (F(x) - 1{y <= x})^2, the definition of Matheson and Winkler (1976)."""
    below = integrate.quad(lambda x: cdf(x) ** 2, -np.inf, outcome, limit=400)[0]  # type: ignore[operator]
    above = integrate.quad(lambda x: (1 - cdf(x)) ** 2, outcome, np.inf, limit=400)[0]  # type: ignore[operator]
    return float(below + above)


def test_a_normal_scores_as_scoringrules_and_scipy_say() -> None:
    found, theirs = Normal(LOCATION, SCALE), stats.norm(LOCATION, SCALE)
    np.testing.assert_allclose(found.crps(OUTCOMES), scoringrules.crps_normal(OUTCOMES, LOCATION, SCALE))
    np.testing.assert_allclose(found.log_density(OUTCOMES), theirs.logpdf(OUTCOMES))
    np.testing.assert_allclose(found.pit(OUTCOMES), theirs.cdf(OUTCOMES))
    np.testing.assert_allclose(found.quantiles(LEVELS), np.stack([theirs.ppf(level) for level in LEVELS], 1))
    np.testing.assert_array_equal(found.mean(), LOCATION)


def test_a_student_t_scores_as_scoringrules_and_scipy_say() -> None:
    found, theirs = StudentT(DEGREES, LOCATION, SCALE), stats.t(DEGREES, LOCATION, SCALE)
    np.testing.assert_allclose(
        found.crps(OUTCOMES), scoringrules.crps_t(OUTCOMES, DEGREES, LOCATION, SCALE), rtol=1e-6
    )
    np.testing.assert_allclose(found.log_density(OUTCOMES), theirs.logpdf(OUTCOMES))
    np.testing.assert_allclose(found.pit(OUTCOMES), theirs.cdf(OUTCOMES))
    np.testing.assert_allclose(found.quantiles(LEVELS), np.stack([theirs.ppf(level) for level in LEVELS], 1))


@pytest.mark.parametrize("degrees", [1.5, 3.0, 8.0])
@pytest.mark.parametrize("outcome", [-2.0, 0.0, 0.7])
def test_crps_of_a_student_t_is_the_integral_that_defines_it(degrees: float, outcome: float) -> None:
    theirs = stats.t(degrees, 0.1, 0.8)
    found = StudentT(np.array([degrees]), np.array([0.1]), np.array([0.8]))
    assert found.crps(np.array([outcome]))[0] == pytest.approx(by_integration(theirs.cdf, outcome), rel=1e-5)


def test_a_student_t_of_many_degrees_is_a_normal() -> None:
    near, limit = StudentT.around_zero(1e6, SCALE), Normal.around_zero(SCALE)
    np.testing.assert_allclose(near.crps(OUTCOMES), limit.crps(OUTCOMES), rtol=1e-4)


def test_a_scaled_shape_scores_as_the_ensemble_of_its_points() -> None:
    shape = Shape.of(sample())
    found = ScaledShape(shape, SCALE)
    members = SCALE[:, None] * shape.support_Q
    np.testing.assert_allclose(
        found.crps(OUTCOMES), scoringrules.crps_ensemble(OUTCOMES, members, estimator="nrg"), rtol=1e-9
    )
    below, reached = ((members < OUTCOMES[:, None]).mean(1), (members <= OUTCOMES[:, None]).mean(1))
    np.testing.assert_allclose(found.pit(OUTCOMES), (below + reached) / 2, atol=1e-12)
    np.testing.assert_allclose(found.mean(), members.mean(1))
    expected = np.quantile(members, LEVELS, axis=1, method="inverted_cdf").T
    np.testing.assert_allclose(found.quantiles(LEVELS), expected, rtol=1e-12)


def mass(found: Density) -> float:
    """Integrate the density piece by piece; its knots are where it bends."""
    inner = np.concatenate(
        [np.linspace(a, b, 201)[:-1] for a, b in zip(found.knots_K, found.knots_K[1:], strict=False)]
    )
    points = np.r_[inner, found.knots_K[-1]]
    inside = integrate.trapezoid(np.exp(found.log_at(points)), points)

    def density(z: float) -> float:
        return float(np.exp(found.log_at(np.array([z])))[0])

    tails = (
        integrate.quad(density, found.knots_K[-1], np.inf)[0],
        integrate.quad(density, -np.inf, found.knots_K[0])[0],
    )
    return float(inside + sum(tails))


@pytest.mark.parametrize(
    "values",
    [
        sample(),
        np.r_[sample(), [4000.0]],
        np.r_[np.zeros(3000), sample(count=2000)],
        np.r_[np.full(2500, -7.0), np.full(2500, 900.0)],
        np.zeros(50),
    ],
    ids=["returns", "an outlier", "many zeros", "two far points", "one point"],
)
def test_the_density_of_a_shape_integrates_to_one_and_is_nowhere_zero(values: np.ndarray) -> None:
    found = Shape.of(values).density
    assert mass(found) == pytest.approx(1.0, abs=2e-3)
    assert np.isfinite(found.log_at(np.array([-1e9, -50.0, 0.0, 3.0, 500.0, 1e9]))).all()


def test_the_density_of_a_shape_is_nearly_that_of_the_distribution_it_was_drawn_from() -> None:
    """Its mean log score on fresh values is the negative entropy less the price of not knowing."""
    truth = stats.t(4)
    fresh = truth.rvs(100_000, random_state=1)
    lost = truth.logpdf(fresh) - Shape.of(sample(count=100_000)).density.log_at(fresh)
    assert 0.0 < lost.mean() < 0.006


def test_a_density_in_return_units_is_the_shapes_over_the_scale() -> None:
    found = ScaledShape(Shape.of(sample()), np.full(20_001, 0.02))
    grid = np.linspace(-0.4, 0.4, 20_001)
    assert integrate.trapezoid(np.exp(found.log_density(grid)), grid) == pytest.approx(1.0, abs=2e-3)


def test_a_sure_forecast_errs_by_its_distance() -> None:
    sure = PointMass(np.array([0.1, 0.1, 0.1]))
    outcome = np.array([0.1, 0.3, -0.1])
    np.testing.assert_allclose(sure.crps(outcome), [0.0, 0.2, 0.2])
    np.testing.assert_array_equal(sure.pit(outcome), [0.5, 1.0, 0.0])
    np.testing.assert_array_equal(sure.quantiles(LEVELS), np.full((3, 4), 0.1))
    assert sure.log_density(outcome) is None


@pytest.mark.parametrize("found", every_kind(), ids=lambda found: type(found).__name__)
def test_some_rows_score_as_they_do_among_all(found: Distribution) -> None:
    rows = np.array([3, 0])
    some = found.at(rows)
    np.testing.assert_array_equal(some.crps(OUTCOMES[rows]), found.crps(OUTCOMES)[rows])
    np.testing.assert_array_equal(some.pit(OUTCOMES[rows]), found.pit(OUTCOMES)[rows])
    np.testing.assert_array_equal(some.quantiles(LEVELS), found.quantiles(LEVELS)[rows])
    np.testing.assert_array_equal(some.mean(), found.mean()[rows])
    density, some_density = found.log_density(OUTCOMES), some.log_density(OUTCOMES[rows])
    if density is not None and some_density is not None:
        np.testing.assert_array_equal(some_density, density[rows])


def test_an_unknown_scale_gives_unknown_scores() -> None:
    unknown = np.array([math.nan])
    shape = ScaledShape(Shape.of(sample()), unknown)
    for found in (Normal.around_zero(unknown), StudentT.around_zero(4.0, unknown), shape):
        assert np.isnan(
            [found.crps(np.zeros(1)), found.log_density(np.zeros(1)), found.pit(np.zeros(1))]
        ).all()
