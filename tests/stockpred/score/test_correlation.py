"""The information coefficient against scipy, and its error by hand and on an autoregression."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from stockpred.score import correlation


def test_long_run_variance_on_a_case_done_by_hand() -> None:
    # Centred: -1.5 -0.5 0.5 1.5; gamma0 = 5/4, gamma1 = 1.25/4, Bartlett weight of lag 1 is 1/2.
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert correlation.long_run_variance(values, 1) == pytest.approx(1.25 + 2 * 0.5 * 0.3125)


def test_long_run_variance_approaches_that_of_an_autoregression() -> None:
    noise = np.random.default_rng(1).standard_normal(200_000)
    series = np.empty_like(noise)
    series[0] = noise[0]
    for t in range(1, len(noise)):
        series[t] = 0.5 * series[t - 1] + noise[t]
    assert correlation.long_run_variance(series, 60) == pytest.approx(1 / (1 - 0.5) ** 2, rel=0.06)


def test_automatic_lags_follow_newey_and_west() -> None:
    assert [correlation.automatic_lags(n) for n in (1, 4, 100, 250, 1000)] == [0, 1, 4, 4, 6]


@pytest.mark.parametrize("ranked", [False, True])
def test_information_coefficient_averages_scipys_correlation_by_date(ranked: bool) -> None:
    rng = np.random.default_rng(4)
    time = np.repeat(np.arange(40), 8)
    prediction = np.round(rng.standard_normal(320), 1)  # with ties
    outcome = 0.3 * prediction + rng.standard_normal(320)
    correlate = stats.spearmanr if ranked else stats.pearsonr
    daily = np.array([correlate(prediction[time == t], outcome[time == t])[0] for t in range(40)])
    shuffled = rng.permutation(320)
    found = correlation.information_coefficient(
        prediction[shuffled], outcome[shuffled], time[shuffled], ranked=ranked
    )
    assert found is not None
    assert found.mean == pytest.approx(daily.mean())
    assert found.ratio == pytest.approx(daily.mean() / daily.std(ddof=1))
    error = math.sqrt(correlation.long_run_variance(daily, correlation.automatic_lags(40)) / 40)
    assert found.t == pytest.approx(daily.mean() / error)


def test_dates_that_say_nothing_are_left_out_of_the_information_coefficient() -> None:
    time = np.array([0] * 5 + [1] * 5 + [2] * 5 + [3] * 2)
    outcome = np.arange(17.0) ** 1.5 % 7
    prediction = np.concatenate([outcome[:5], np.full(5, 0.7), -outcome[10:15], outcome[15:]])
    found = correlation.information_coefficient(prediction, outcome, time, ranked=False)
    assert found is not None
    assert found.num_dates == 2
    assert found.mean == pytest.approx(0.0)
    assert correlation.information_coefficient(prediction[:5], outcome[:5], time[:5], ranked=False) is None
