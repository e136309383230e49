"""Scores and intervals against closed forms, numerical integration, scipy, and hand calculation."""

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


def test_direction_leaves_out_zero_returns_and_zero_calls() -> None:
    call = np.array([1.0, 1.0, -1.0, 1.0, 0.0])
    outcome = np.array([0.1, -0.1, -0.2, 0.0, 0.3])
    found = metrics.direction_accuracy(call, outcome, np.arange(5))
    assert found is not None
    assert (found.num_trials, found.share) == (3, pytest.approx(2 / 3))
    assert metrics.direction_accuracy(call, np.zeros(5), np.arange(5)) is None


def test_a_day_on_which_all_assets_move_together_counts_as_one_trial_of_direction() -> None:
    rng = np.random.default_rng(5)
    num_days, num_assets = 400, 50
    day = np.repeat(np.arange(num_days), num_assets)
    outcome = rng.choice([-1.0, 1.0], num_days)[day]
    found = metrics.direction_accuracy(np.ones(len(day)), outcome, day)
    assert found is not None
    by_day = stats.binomtest(round(found.share * num_days), num_days).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((by_day.low, by_day.high), abs=0.02)
    by_bar = stats.binomtest(round(found.share * len(day)), len(day)).proportion_ci(method="wilson")
    assert found.high - found.low > 5 * (by_bar.high - by_bar.low)


def test_the_interval_of_a_direction_that_is_always_right_stays_below_one() -> None:
    outcome = np.array([1.0, 1, 1, 1, 1, 1, 1, -1])
    found = metrics.direction_accuracy(np.ones(8), outcome, np.arange(8) // 2)
    assert found is not None
    assert 0.0 <= found.low < found.share < found.high <= 1.0


def test_skill_and_r_squared_on_a_case_done_by_hand() -> None:
    outcome, prediction = np.array([1.0, 3.0]), np.array([1.0, 2.0])
    squared = (prediction - outcome) ** 2
    assert metrics.skill(squared, outcome**2) == pytest.approx(1 - 0.5 / 5)
    assert metrics.r_squared(prediction, outcome) == pytest.approx(1 - 0.5 / 1)
    assert metrics.skill(squared, np.zeros(2)) is None


def test_long_run_variance_on_a_case_done_by_hand() -> None:
    # Centred: -1.5 -0.5 0.5 1.5; gamma0 = 5/4, gamma1 = 1.25/4, Bartlett weight of lag 1 is 1/2.
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert metrics.long_run_variance(values, 1) == pytest.approx(1.25 + 2 * 0.5 * 0.3125)


def test_long_run_variance_approaches_that_of_an_autoregression() -> None:
    noise = np.random.default_rng(1).standard_normal(200_000)
    series = np.empty_like(noise)
    series[0] = noise[0]
    for t in range(1, len(noise)):
        series[t] = 0.5 * series[t - 1] + noise[t]
    assert metrics.long_run_variance(series, 60) == pytest.approx(1 / (1 - 0.5) ** 2, rel=0.06)


def test_automatic_lags_follow_newey_and_west() -> None:
    assert [metrics.automatic_lags(n) for n in (1, 4, 100, 250, 1000)] == [0, 1, 4, 4, 6]


def test_diebold_mariano_on_a_case_done_by_hand() -> None:
    # Mean 2.5; standard error sqrt(1.5625 / 4) = 0.625 from the case above; t = 4.
    found = metrics.diebold_mariano(np.array([1.0, 2, 3, 4]), np.zeros(4), np.arange(4))
    assert (found.mean, found.standard_error) == pytest.approx((2.5, 0.625))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(4.0))
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.95, 2.5, 0.625))


def shared_shocks(rng: np.random.Generator, num_days: int = 250) -> tuple[np.ndarray, np.ndarray]:
    """Return values of mean zero whose bars of one day share a shock, days being of uneven size."""
    groups = np.repeat(np.arange(num_days), rng.integers(5, 25, num_days))
    return rng.standard_normal(num_days)[groups] + rng.standard_normal(len(groups)), groups


def test_intervals_hold_the_truth_as_often_as_they_say_where_bars_of_a_day_move_together() -> None:
    rng = np.random.default_rng(2)
    found = [metrics.mean_by_group(*shared_shocks(rng)) for _ in range(400)]
    held = np.mean([estimate.low <= 0.0 <= estimate.high for estimate in found])
    assert 0.90 <= held <= 0.98
    rejected = np.mean([estimate.p_value < 0.05 for estimate in found])
    assert rejected == pytest.approx(1 - held)


def test_the_error_of_a_mean_by_day_agrees_with_a_bootstrap_over_days() -> None:
    rng = np.random.default_rng(3)
    values, groups = shared_shocks(rng)
    sums, counts = np.bincount(groups, values), np.bincount(groups)
    drawn = rng.integers(0, len(sums), (4000, len(sums)))
    bootstrap = (sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)).std()
    found = metrics.mean_by_group(values, groups)
    assert found.standard_error == pytest.approx(bootstrap, rel=0.15)
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_error > 2 * values.std() / math.sqrt(len(values))


def test_one_day_gives_no_interval_and_no_p_value() -> None:
    """All that its bars share would look like the effect: any mean but zero would have p = 0."""
    one_day = np.zeros(6, np.int64)
    values = np.array([0.1, 0.3, 0.2, 0.4, 0.2, 0.3])
    assert metrics.mean_by_group(values, one_day) is None
    assert metrics.diebold_mariano(values, np.zeros(6), one_day) is None
    found = metrics.direction_accuracy(values, np.array([1.0, 1, 1, 1, -1, -1]), one_day)
    assert found == metrics.Proportion(pytest.approx(4 / 6), None, None, 6)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_order_of_bars_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, groups = shared_shocks(rng, 30)
    shuffled = rng.permutation(len(values))
    first, second = (
        metrics.mean_by_group(values, groups),
        metrics.mean_by_group(values[shuffled], groups[shuffled]),
    )
    assert first.standard_error == pytest.approx(second.standard_error)


@pytest.mark.parametrize("ranked", [False, True])
def test_information_coefficient_averages_scipys_correlation_by_date(ranked: bool) -> None:
    rng = np.random.default_rng(4)
    time = np.repeat(np.arange(40), 8)
    prediction = np.round(rng.standard_normal(320), 1)  # with ties
    outcome = 0.3 * prediction + rng.standard_normal(320)
    correlate = stats.spearmanr if ranked else stats.pearsonr
    daily = np.array([correlate(prediction[time == t], outcome[time == t])[0] for t in range(40)])
    shuffled = rng.permutation(320)
    found = metrics.information_coefficient(
        prediction[shuffled], outcome[shuffled], time[shuffled], ranked=ranked
    )
    assert found is not None
    assert found.mean == pytest.approx(daily.mean())
    assert found.ratio == pytest.approx(daily.mean() / daily.std(ddof=1))
    error = math.sqrt(metrics.long_run_variance(daily, metrics.automatic_lags(40)) / 40)
    assert found.t == pytest.approx(daily.mean() / error)


def test_dates_that_say_nothing_are_left_out_of_the_information_coefficient() -> None:
    time = np.array([0] * 5 + [1] * 5 + [2] * 5 + [3] * 2)
    outcome = np.arange(17.0) ** 1.5 % 7
    prediction = np.concatenate([outcome[:5], np.full(5, 0.7), -outcome[10:15], outcome[15:]])
    found = metrics.information_coefficient(prediction, outcome, time, ranked=False)
    assert found is not None
    assert found.num_dates == 2
    assert found.mean == pytest.approx(0.0)
    assert metrics.information_coefficient(prediction[:5], outcome[:5], time[:5], ranked=False) is None


def test_bits_are_nats_by_the_logarithm_of_two() -> None:
    assert metrics.bits(math.log(1024)) == pytest.approx(10.0)


def test_the_interval_of_a_skill_on_a_case_done_by_hand() -> None:
    # R = 6 / 8, so the skill is 1/4; contributions (l - R r) / 2 are -0.375 0.625 -0.75 0.5 and sum to 0.
    # Four groups have one lag of weight 1/2: variance (1.34375 + 2 * 0.5 * -1.078125) / 4.
    found = metrics.skill_interval(np.array([0.0, 2, 1.5, 2.5]), np.array([1.0, 1, 4, 2]), np.arange(4))
    assert found is not None
    assert found.mean == pytest.approx(0.25)
    assert found.standard_error == pytest.approx(math.sqrt((1.34375 - 1.078125) / 4 / 4))
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.95, 0.25, found.standard_error))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(0.25 / found.standard_error))


def test_a_skill_has_no_interval_where_nothing_can_be_won_or_one_date_tells_all() -> None:
    assert metrics.skill_interval(np.ones(5), np.zeros(5), np.arange(5)) is None
    assert metrics.skill_interval(np.ones(5), np.full(5, 2.0), np.zeros(5, np.int64)) is None


def squared_errors(
    rng: np.random.Generator, num_days: int, variance: float = 0.01
) -> tuple[np.ndarray, np.ndarray]:
    """Return squared errors of a useless forecast and of persistence where volatility clusters.

    Log volatility is an autoregression of variance 0.25, so a squared return is exp(0.5) on average; the
    forecast is noise of this variance that knows nothing, so its skill is -variance / exp(0.5).
    """
    log_volatility = np.empty(num_days)
    log_volatility[0] = 0.5 * rng.standard_normal()
    for day in range(1, num_days):
        log_volatility[day] = 0.9 * log_volatility[day - 1] + 0.5 * math.sqrt(0.19) * rng.standard_normal()
    returns = np.exp(log_volatility) * rng.standard_normal(num_days)
    forecast = math.sqrt(variance) * rng.standard_normal(num_days)
    return (forecast - returns) ** 2, returns**2


@pytest.mark.parametrize(
    ("variance", "least"),
    [(0.01, 0.93), (0.1, 0.90)],
    ids=["a skill near zero", "a clearly negative skill under persistent volatility"],
)
def test_the_interval_of_a_skill_holds_the_truth_nearly_as_often_as_it_says(
    variance: float, least: float
) -> None:
    rng = np.random.default_rng(6)
    truth, held, errors, skills = -variance / math.exp(0.5), 0, [], []
    for _ in range(1000):
        found = metrics.skill_interval(*squared_errors(rng, 374, variance), np.arange(374))
        assert found is not None
        held += found.low <= truth <= found.high
        errors.append(found.standard_error)
        skills.append(found.mean)
    assert least <= held / 1000 <= 0.97
    assert np.mean(errors) == pytest.approx(np.std(skills), rel=0.12)


def test_the_error_of_a_skill_agrees_with_a_moving_block_bootstrap() -> None:
    rng = np.random.default_rng(7)
    loss, reference = squared_errors(rng, 1000)
    starts = rng.integers(0, 1000 - 20 + 1, (3000, 50))
    drawn = (starts[:, :, None] + np.arange(20)).reshape(3000, -1)
    bootstrap = (1.0 - loss[drawn].mean(axis=1) / reference[drawn].mean(axis=1)).std()
    found = metrics.skill_interval(loss, reference, np.arange(1000))
    assert found is not None
    assert found.standard_error == pytest.approx(bootstrap, rel=0.15)


def test_holms_correction_on_a_case_done_by_hand() -> None:
    # Sorted 0.01 0.02 0.03 0.6 become 4, 3, 2, 1 times: 0.04, 0.06, max(0.06, 0.06), 0.6.
    assert metrics.holm([0.03, 0.6, 0.01, 0.02]) == pytest.approx((0.06, 0.6, 0.04, 0.06))
    assert metrics.holm([0.4, 0.5]) == pytest.approx((0.8, 0.8))
    assert metrics.holm([]) == ()


def test_holms_correction_makes_a_false_claim_among_many_as_rare_as_one_test_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels collects garbage on every call: 60 ms each
    rng = np.random.default_rng(8)
    shared = rng.standard_normal((2000, 1))
    z = math.sqrt(0.5) * shared + math.sqrt(0.5) * rng.standard_normal((2000, 8))
    p_values = 2 * stats.norm.sf(np.abs(z))
    false_claims = np.mean([min(metrics.holm(list(row))) < 0.05 for row in p_values])
    assert np.mean(p_values.min(axis=1) < 0.05) > 0.2
    assert 0.02 < false_claims <= 0.06


def test_neither_the_command_nor_the_metrics_import_scipy_before_a_test_is_scored() -> None:
    modules = "import sys, stockpred.cli, stockpred.score.metrics"
    code = f"{modules}; print({{'scipy', 'statsmodels'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
