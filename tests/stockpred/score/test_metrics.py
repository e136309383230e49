"""Scores against closed forms, numerical integration, scipy, and hand calculation."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate, stats

from stockpred.score import metrics

finite = st.floats(-5, 5, allow_nan=False, width=32)


def crps_by_integration(probabilities: np.ndarray, support: np.ndarray, outcome: float) -> float:
    """Integrate (F(x) - 1{y <= x})^2 piece by piece, the definition of Matheson and Winkler (1976)."""
    knots = np.sort(np.append(support, outcome))
    middles = (knots[1:] + knots[:-1]) / 2
    distribution = np.array([probabilities[support <= x].sum() for x in middles])
    return float(((distribution - (outcome <= middles)) ** 2 * np.diff(knots)).sum())


@st.composite
def discrete_forecasts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float]:
    size = draw(st.integers(2, 12))
    weights = draw(hnp.arrays(np.float64, size, elements=st.floats(0.01, 1)))
    support = np.sort(draw(hnp.arrays(np.float64, size, elements=finite)))
    return weights / weights.sum(), support, draw(finite)


@given(discrete_forecasts())
def test_crps_of_a_discrete_forecast_is_the_integral_that_defines_it(
    forecast: tuple[np.ndarray, np.ndarray, float],
) -> None:
    probabilities, support, outcome = forecast
    score = metrics.crps_discrete(
        probabilities[None], probabilities.cumsum()[None], support, np.array([outcome])
    )
    assert score[0] == pytest.approx(crps_by_integration(probabilities, support, outcome), abs=1e-9)


@given(discrete_forecasts())
def test_one_forecast_for_many_outcomes_scores_as_many_equal_forecasts(
    forecast: tuple[np.ndarray, np.ndarray, float],
) -> None:
    probabilities, support, outcome = forecast
    outcomes = np.array([outcome, support[0], support[-1] + 1.0, support[0] - 1.0])
    repeated = np.tile(probabilities, (4, 1))
    np.testing.assert_allclose(
        metrics.crps_fixed(probabilities, support, outcomes),
        metrics.crps_discrete(repeated, repeated.cumsum(axis=1), support, outcomes),
        atol=1e-9,
    )
    np.testing.assert_allclose(
        metrics.pit_fixed(probabilities, support, outcomes),
        metrics.pit_discrete(repeated, support, outcomes),
        atol=1e-12,
    )


def test_crps_of_a_sure_forecast_is_its_absolute_error() -> None:
    sure = np.array([[0.0, 1.0, 0.0]])
    score = metrics.crps_discrete(sure, sure.cumsum(axis=1), np.array([-1.0, 0.5, 2.0]), np.array([3.0]))
    assert score[0] == pytest.approx(2.5)


@given(st.floats(-0.1, 0.1), st.floats(0.01, 0.2), st.floats(-0.3, 0.3))
@settings(max_examples=30, deadline=None)
def test_crps_of_a_normal_is_the_integral_that_defines_it(
    mean: float, deviation: float, outcome: float
) -> None:
    normal = stats.norm(mean, deviation)
    below = integrate.quad(lambda x: normal.cdf(x) ** 2, mean - 12 * deviation - 1, outcome, limit=200)[0]
    above = integrate.quad(lambda x: normal.sf(x) ** 2, outcome, mean + 12 * deviation + 1, limit=200)[0]
    score = metrics.crps_normal(np.array([mean]), np.array([deviation]), np.array([outcome]))
    assert score[0] == pytest.approx(below + above, abs=1e-6)


def test_a_finely_cut_normal_scores_as_the_normal() -> None:
    support = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    outcomes = np.array([-2.0, 0.0, 0.7, 3.0])
    np.testing.assert_allclose(
        metrics.crps_fixed(np.full(4000, 1 / 4000), support, outcomes),
        metrics.crps_normal(np.zeros(4), np.ones(4), outcomes),
        atol=1e-4,
    )


@given(hnp.arrays(np.float64, st.integers(2, 30), elements=finite))
def test_quantiles_are_those_of_the_inverted_distribution_function(sample: np.ndarray) -> None:
    support = np.sort(sample)
    cumulative = np.arange(1, len(support) + 1)[None] / len(support)
    levels = (0.05, 0.33, 0.5, 0.77, 0.95)
    expected = np.quantile(support, levels, method="inverted_cdf")
    np.testing.assert_array_equal(metrics.quantiles_discrete(cumulative, support, levels)[0], expected)


def test_pit_is_the_mean_percentile_rank() -> None:
    support = np.array([1.0, 2.0, 2.0, 4.0])
    for outcome in (0.0, 1.0, 2.0, 3.0, 9.0):
        expected = stats.percentileofscore(support, outcome, kind="mean") / 100
        assert metrics.pit_fixed(np.full(4, 0.25), support, np.array([outcome]))[0] == pytest.approx(expected)


def test_coverage_counts_outcomes_inside_the_central_interval() -> None:
    assert metrics.coverage(np.array([0.02, 0.06, 0.5, 0.94, 0.99]), 0.9) == pytest.approx(0.6)


def test_an_honest_normal_covers_what_it_promises() -> None:
    outcomes = np.random.default_rng(0).standard_normal(40_000)
    for level in (0.5, 0.8, 0.9):
        assert metrics.coverage(metrics.normal_cdf(outcomes), level) == pytest.approx(level, abs=0.008)


def test_skill_and_r_squared_on_a_case_done_by_hand() -> None:
    outcome, prediction = np.array([1.0, 3.0]), np.array([1.0, 2.0])
    squared = (prediction - outcome) ** 2
    assert metrics.skill(squared, outcome**2) == pytest.approx(1 - 0.5 / 5)
    assert metrics.r_squared(prediction, outcome) == pytest.approx(1 - 0.5 / 1)
    assert metrics.skill(squared, np.zeros(2)) is None


def test_bits_are_nats_by_the_logarithm_of_two() -> None:
    assert metrics.bits(math.log(1024)) == pytest.approx(10.0)


def test_neither_the_command_nor_the_metrics_import_scipy_before_a_test_is_scored() -> None:
    modules = "import sys, stockpred.cli, stockpred.score.metrics, stockpred.score.inference"
    code = f"{modules}; print({{'scipy', 'statsmodels'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
