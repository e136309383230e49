"""Intervals and tests against closed forms, simulation, a bootstrap, scipy, and hand calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from stockpred.score import inference


@pytest.mark.parametrize("num_dates", [20, 60, 374])
def test_the_error_is_the_mean_square_of_the_first_cosines(num_dates: int) -> None:
    values = np.random.default_rng(0).standard_normal(num_dates)
    count = round(0.4 * num_dates ** (2 / 3))
    middle = np.arange(num_dates) + 0.5
    cosines = [
        math.sqrt(2 / num_dates) * (values @ np.cos(math.pi * order * middle / num_dates))
        for order in range(1, count + 1)
    ]
    error, degrees = inference.standard_error(values - values.mean())
    assert degrees == count
    assert error == pytest.approx(math.sqrt(np.mean(np.square(cosines)) / num_dates))


def test_diebold_mariano_on_a_case_done_by_hand() -> None:
    # A cosine of order k has a k-th transform of sqrt(n / 2) and no other: with n = 20 and 3 degrees, its
    # long-run variance is (20 / 2) / 3, so the error of the mean is sqrt(10 / 3 / 20), and t = 2 / error.
    loss = 2.0 + np.cos(math.pi * 2 * (np.arange(20) + 0.5) / 20)
    found = inference.diebold_mariano(loss, np.zeros(20), np.arange(20))
    assert found is not None
    error = math.sqrt(1 / 6)
    assert (found.mean, found.standard_error) == pytest.approx((2.0, error))
    assert found.p_value == pytest.approx(2 * stats.t(3).sf(2.0 / error))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 3, 2.0, error))


@pytest.mark.parametrize("num_dates", [20, 40, 250])
def test_the_interval_of_independent_normal_dates_is_exact(num_dates: int) -> None:
    """The cosines are then independent of the mean and of each other: t is exactly a t."""
    rng = np.random.default_rng(num_dates)
    dates, held = np.arange(num_dates), 0
    for values in rng.standard_normal((2000, num_dates)):
        found = inference.mean_by_group(values, dates)
        assert found is not None
        held += found.low <= 0.0 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("num_dates", "least"), [(20, 0.92), (60, 0.92), (250, 0.93)])
def test_dependence_between_dates_costs_an_interval_little_of_what_it_promises(
    num_dates: int, least: float
) -> None:
    rng = np.random.default_rng(9)
    dates, held = np.arange(num_dates), 0
    for noise in rng.standard_normal((1500, num_dates + 50)):
        series = signal.lfilter([1.0], [1.0, -0.3], noise)[50:]
        found = inference.mean_by_group(series, dates)
        assert found is not None
        held += found.low <= 0.0 <= found.high
    assert least <= held / 1500 <= 0.97


def test_fewer_than_twenty_dates_give_no_interval_and_no_p_value() -> None:
    """All that the bars of a date share would look like the effect."""
    dates = np.repeat(np.arange(19), 3)
    values = np.random.default_rng(0).standard_normal(57)
    assert inference.mean_by_group(values, dates) is None
    assert inference.diebold_mariano(values, np.zeros(57), dates) is None
    assert inference.skill_interval(np.ones(57), np.full(57, 2.0), dates) is None
    found = inference.direction_accuracy(values, np.ones(57), dates)
    assert found == inference.Proportion(pytest.approx((values > 0).mean()), None, None, 57)


def test_the_interval_of_a_skill_on_a_case_done_by_hand() -> None:
    # R = 3 / 4; the contributions are l - R r over a mean of 1, a cosine of order 1 as in the case above.
    cosine = np.cos(math.pi * (np.arange(20) + 0.5) / 20)
    found = inference.skill_interval(0.75 + cosine, np.ones(20), np.arange(20))
    assert found is not None
    error = math.sqrt(1 / 6)
    assert (found.mean, found.standard_error) == pytest.approx((0.25, error))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 3, 0.25, error))
    assert found.p_value == pytest.approx(2 * stats.t(3).sf(0.25 / error))


def test_a_skill_has_no_interval_where_nothing_can_be_won() -> None:
    assert inference.skill_interval(np.ones(25), np.zeros(25), np.arange(25)) is None


def test_direction_leaves_out_zero_returns_and_zero_calls() -> None:
    call = np.array([1.0, 1.0, -1.0, 1.0, 0.0])
    outcome = np.array([0.1, -0.1, -0.2, 0.0, 0.3])
    found = inference.direction_accuracy(call, outcome, np.arange(5))
    assert found is not None
    assert (found.num_trials, found.share) == (3, pytest.approx(2 / 3))
    assert inference.direction_accuracy(call, np.zeros(5), np.arange(5)) is None


def test_a_day_on_which_all_assets_move_together_counts_as_one_trial_of_direction() -> None:
    rng = np.random.default_rng(5)
    num_days, num_assets = 400, 50
    day = np.repeat(np.arange(num_days), num_assets)
    outcome = rng.choice([-1.0, 1.0], num_days)[day]
    found = inference.direction_accuracy(np.ones(len(day)), outcome, day)
    assert found is not None
    by_day = stats.binomtest(round(found.share * num_days), num_days).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((by_day.low, by_day.high), abs=0.02)
    by_bar = stats.binomtest(round(found.share * len(day)), len(day)).proportion_ci(method="wilson")
    assert found.high - found.low > 5 * (by_bar.high - by_bar.low)


def test_the_interval_of_a_direction_that_is_nearly_always_right_stays_below_one() -> None:
    outcome = np.where(np.arange(60) % 17 == 3, -1.0, 1.0)
    found = inference.direction_accuracy(np.ones(60), outcome, np.arange(60))
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 0.0 <= found.low < found.share < found.high <= 1.0


def shared_shocks(rng: np.random.Generator, num_days: int = 250) -> tuple[np.ndarray, np.ndarray]:
    """Return values of mean zero whose bars of one day share a shock, days being of uneven size."""
    groups = np.repeat(np.arange(num_days), rng.integers(5, 25, num_days))
    return rng.standard_normal(num_days)[groups] + rng.standard_normal(len(groups)), groups


def test_intervals_hold_the_truth_as_often_as_they_say_where_bars_of_a_day_move_together() -> None:
    rng = np.random.default_rng(2)
    found = [inference.mean_by_group(*shared_shocks(rng)) for _ in range(400)]
    held = np.mean([estimate.low <= 0.0 <= estimate.high for estimate in found])
    assert 0.90 <= held <= 0.98
    rejected = np.mean([estimate.p_value < 0.05 for estimate in found])
    assert rejected == pytest.approx(1 - held)


def test_the_error_of_a_mean_by_day_agrees_with_its_spread_over_many_samples() -> None:
    rng = np.random.default_rng(3)
    found = [inference.mean_by_group(*shared_shocks(rng)) for _ in range(400)]
    errors = np.array([estimate.standard_error for estimate in found])
    spread = np.std([estimate.mean for estimate in found])
    assert math.sqrt(np.mean(errors**2)) == pytest.approx(spread, rel=0.12)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_order_of_bars_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, groups = shared_shocks(rng, 30)
    shuffled = rng.permutation(len(values))
    first, second = (
        inference.mean_by_group(values, groups),
        inference.mean_by_group(values[shuffled], groups[shuffled]),
    )
    assert first.standard_error == pytest.approx(second.standard_error)


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
        found = inference.skill_interval(*squared_errors(rng, 374, variance), np.arange(374))
        assert found is not None
        held += found.low <= truth <= found.high
        errors.append(found.standard_error)
        skills.append(found.mean)
    assert least <= held / 1000 <= 0.97
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(skills), rel=0.12)


def test_the_error_of_a_skill_agrees_with_a_moving_block_bootstrap() -> None:
    rng = np.random.default_rng(7)
    loss, reference = squared_errors(rng, 1000)
    starts = rng.integers(0, 1000 - 20 + 1, (3000, 50))
    drawn = (starts[:, :, None] + np.arange(20)).reshape(3000, -1)
    bootstrap = (1.0 - loss[drawn].mean(axis=1) / reference[drawn].mean(axis=1)).std()
    found = inference.skill_interval(loss, reference, np.arange(1000))
    assert found is not None
    assert found.standard_error == pytest.approx(bootstrap, rel=0.35)


def test_holms_correction_on_a_case_done_by_hand() -> None:
    # Sorted 0.01 0.02 0.03 0.6 become 4, 3, 2, 1 times: 0.04, 0.06, max(0.06, 0.06), 0.6.
    assert inference.holm([0.03, 0.6, 0.01, 0.02]) == pytest.approx((0.06, 0.6, 0.04, 0.06))
    assert inference.holm([0.4, 0.5]) == pytest.approx((0.8, 0.8))
    assert inference.holm([]) == ()


def test_holms_correction_makes_a_false_claim_among_many_as_rare_as_one_test_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels collects garbage on every call: 60 ms each
    rng = np.random.default_rng(8)
    shared = rng.standard_normal((2000, 1))
    z = math.sqrt(0.5) * shared + math.sqrt(0.5) * rng.standard_normal((2000, 8))
    p_values = 2 * stats.norm.sf(np.abs(z))
    false_claims = np.mean([min(inference.holm(list(row))) < 0.05 for row in p_values])
    assert np.mean(p_values.min(axis=1) < 0.05) > 0.2
    assert 0.02 < false_claims <= 0.06
