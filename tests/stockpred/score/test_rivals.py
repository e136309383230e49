"""Each rival against the library or the hand calculation that says what it should be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scoringrules
import statsmodels.api as sm
from arch import arch_model
from scipy import stats

from stockpred.data.splits import Split
from stockpred.score import ranges, rival, volatility
from stockpred.score.distributions import Normal, ScaledShape, StudentT
from stockpred.score.history import History
from stockpred.score.rivals import ewma_student_t, garch, har
from tests.stockpred.score.made_history import LATE, STILL, keep, made_history

MOVING = (0, 2, 3)
"""Assets of the made market that trade every day."""


def forecast_of(name: str, history: History) -> rival.RivalForecast:
    return rival.load(name).forecast(history)


def spread_of(name: str, history: History) -> np.ndarray:
    distribution = forecast_of(name, history).distribution
    assert isinstance(distribution, Normal)
    return distribution.deviation


def candle(opened: float, high: float, low: float, close: float) -> History:
    """Return three bars of one asset: two of a price of 100, then this candle."""
    prices = np.array(
        [[100.0, 100.0, 100.0, 100.0], [100.0, 101.0, 99.0, 100.0], [opened, high, low, close]]
    ).T
    change = np.array([np.nan, 0.0, close / 100.0 - 1.0])
    whole = np.zeros(3, np.int64)
    return History(*prices, np.full(3, np.nan), change, np.arange(3), whole, whole, np.zeros(3, np.int8))


# Points.


def test_the_drift_is_the_mean_training_return_of_pandas() -> None:
    history = made_history()
    rows = history.targets(Split.TRAIN)
    means = pd.Series(history.change[rows]).groupby(history.asset[rows]).mean()
    expected = forecast_of("drift", history).expected_return
    assert expected is not None
    for asset, mean in means.items():
        np.testing.assert_allclose(expected[history.asset == asset], mean, atol=1e-15)
    members = rows[history.category[rows] == LATE % 2]
    np.testing.assert_allclose(expected[history.asset == LATE], history.change[members].mean())


def test_the_last_value_errs_by_the_return() -> None:
    history = made_history()
    targets = history.targets(Split.TEST)
    distribution = forecast_of("last_value", history).distribution
    assert distribution is not None
    outcome = history.change[targets]
    np.testing.assert_array_equal(distribution.at(targets).crps(outcome), np.abs(outcome))


# Volatility of closes.


def test_historical_volatility_is_the_rolling_deviation_of_pandas() -> None:
    history = made_history(assets=MOVING)
    found = spread_of("volatility_20d", history)
    expected = (
        pd.Series(history.change).groupby(history.asset).transform(lambda one: one.shift().rolling(20).std())
    )
    known = expected.notna().to_numpy()
    assert known.sum() == 3 * (500 - 21)
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-9)


def test_ewma_is_that_of_pandas_from_the_training_variance_on() -> None:
    history = made_history(assets=MOVING)
    found = spread_of("ewma_normal", history)
    for _, rows in history.runs:
        square = history.change[rows] ** 2
        usual = np.nanmean(square[history.split[rows] == Split.TRAIN])
        seeded = pd.Series(np.r_[usual, square[1:]])
        expected = np.sqrt(seeded.ewm(alpha=0.06, adjust=False).mean())
        np.testing.assert_allclose(found[rows][1:], expected[:-1], rtol=1e-9)


def test_a_still_price_has_the_least_volatility() -> None:
    history = made_history()
    still = history.asset == STILL
    np.testing.assert_array_equal(spread_of("ewma_normal", history)[still], volatility.MIN_VOLATILITY)


def test_the_chosen_decay_has_the_least_crps_on_validation_and_its_shape_is_that_of_training() -> None:
    history = made_history(assets=MOVING)
    train, validation = history.targets(Split.TRAIN), history.targets(Split.VALIDATION)
    losses = {}
    for decay in volatility.DECAYS:
        scale = volatility.ewma(history, decay)
        levels = (np.arange(1001) + 0.5) / 1001
        shape = np.quantile(history.change[train] / scale[train], levels)
        members = scale[validation][:, None] * shape
        losses[decay] = scoringrules.crps_ensemble(
            history.change[validation], members, estimator="int"
        ).mean()
    found = forecast_of("ewma_shape", history)
    assert isinstance(found.distribution, ScaledShape)
    assert found.settings["decay"] == min(losses, key=lambda decay: losses[decay])
    chosen = found.distribution.at(validation).crps(history.change[validation]).mean()
    assert chosen == pytest.approx(min(losses.values()), rel=1e-9)


def test_without_validation_the_decay_is_that_of_riskmetrics() -> None:
    history = made_history(assets=MOVING)
    split = np.where(history.split == Split.VALIDATION, np.int8(Split.OUTSIDE), history.split)
    found = forecast_of("ewma_shape", replace(history, split=split))
    assert found.settings == {"decay": volatility.RISKMETRICS_DECAY}


@pytest.mark.parametrize("degrees", [2.5, 4.0, 12.0])
def test_the_fitted_student_t_is_that_of_scipy(degrees: float) -> None:
    z = stats.t(degrees, 0.0, 0.8).rvs(4000, random_state=3)
    their_degrees, _, their_scale = stats.t.fit(z, floc=0.0)
    assert ewma_student_t.fit(z) == pytest.approx((their_degrees, their_scale), rel=2e-3)


def test_order_statistics_stand_for_many_values() -> None:
    z = stats.t(4.0).rvs(200_000, random_state=3)
    their_degrees, _, their_scale = stats.t.fit(z, floc=0.0)
    assert ewma_student_t.fit(z) == pytest.approx((their_degrees, their_scale), rel=0.02)


# The library arch.


@pytest.fixture(scope="module")
def simulated() -> np.ndarray:
    """Return 3000 returns of a GARCH(1,1) whose shocks are Student-t with 5 degrees, made by arch."""
    model = arch_model(None, mean="Zero", vol="GARCH", p=1, q=1, dist="t")
    model.distribution._generator = np.random.default_rng(7)
    data = model.simulate(np.array([0.05, 0.1, 0.85, 5.0]), nobs=3000)
    return 0.01 * data["data"].to_numpy()


def one_asset(returns: np.ndarray, num_train: int) -> History:
    close = 100.0 * np.cumprod(1.0 + returns)
    whole = np.zeros(len(returns), np.int64)
    split = np.where(np.arange(len(returns)) < num_train, Split.TRAIN, Split.TEST).astype(np.int8)
    time = np.arange(len(returns))
    return History(close, close, close, close, close, returns, time, whole, whole, split)


def test_garch_forecasts_what_arch_does_with_the_parameters_of_the_training_part(
    simulated: np.ndarray,
) -> None:
    num_train = 2000
    found = forecast_of("garch", one_asset(simulated, num_train)).distribution
    assert isinstance(found, StudentT)
    scale = float(np.sqrt(np.mean(simulated[:num_train] ** 2)))
    scaled = simulated / scale
    trained = arch_model(scaled[:num_train], mean="Zero", dist="t", rescale=False).fit(disp="off")
    theirs = arch_model(scaled, mean="Zero", dist="t", rescale=False).fix(trained.params)
    variance = theirs.forecast(horizon=1, start=500, reindex=False).variance.to_numpy()[:-1, 0] * scale**2
    np.testing.assert_allclose(found.degrees, trained.params["nu"], rtol=1e-4)
    deviation = found.scale * np.sqrt(found.degrees / (found.degrees - 2.0))
    np.testing.assert_allclose(deviation[501:] ** 2, variance, rtol=1e-4)


def test_garch_scores_the_likelihood_of_arch(simulated: np.ndarray) -> None:
    found = forecast_of("garch", one_asset(simulated, len(simulated))).distribution
    assert found is not None
    model = arch_model(100.0 * simulated, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    density = found.log_density(simulated)
    assert density is not None
    in_percent = density.mean() - math.log(100.0)
    assert in_percent == pytest.approx(model.fit(disp="off").loglikelihood / len(simulated), abs=1e-3)


def test_garch_without_enough_training_takes_the_parameters_of_its_category() -> None:
    long, short = made_history(assets=(0, 2, 6)), made_history(assets=(LATE,))
    both = made_history(assets=(0, 2, 6, LATE))
    alone = forecast_of("garch", long).distribution
    found = forecast_of("garch", both).distribution
    assert isinstance(alone, StudentT)
    assert isinstance(found, StudentT)
    own = [alone.degrees[rows.start] for _, rows in long.runs]
    is_late = both.time >= short.time[0]
    late = is_late & (both.asset == 2)
    assert late.sum() == len(short.time)
    assert found.degrees[late].tolist() == [np.median(own)] * late.sum()
    usual = both.usual(both.change**2)[2]
    assert usual == pytest.approx(np.mean(long.change[long.targets(Split.TRAIN)] ** 2))


def test_garch_without_any_fit_is_riskmetrics_drawn_to_the_usual_variance() -> None:
    history = made_history(num_days=200, assets=(0,))
    found = forecast_of("garch", history)
    assert isinstance(found.distribution, StudentT)
    assert found.settings["assets_fitted"] == 0
    usual = history.usual(history.change**2)[0]
    expected = [usual]
    for change in np.nan_to_num(history.change[1:-1]):
        expected.append(0.01 * usual + 0.05 * change**2 + 0.94 * expected[-1])
    np.testing.assert_allclose(found.distribution.scale[1:] ** 2, np.array(expected) * 3 / 5, rtol=1e-9)


def test_a_missing_library_leaves_its_rival_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "garch" in rival.names()
    monkeypatch.setattr(garch, "available", lambda: False)
    assert rival.unavailable() == ("garch",)
    assert "garch" not in rival.names()
    with pytest.raises(rival.UserError, match="'garch' wants a library"):
        rival.load("garch")


def test_an_unknown_rival_is_named() -> None:
    with pytest.raises(rival.UserError, match="no rival 'harr'"):
        rival.load("harr")


# Ranges.


def test_the_range_variances_of_a_candle_by_hand() -> None:
    """ln(110/95) = 0.146603, ln(105/100) = 0.048790; ln 1.1 = 0.095310, ln 0.95 = -0.051293."""
    history = candle(100.0, 110.0, 95.0, 105.0)
    assert ranges.garman_klass(history)[2] == pytest.approx(0.5 * 0.0214925 - 0.3862944 * 0.0023805, abs=1e-7)
    by_hand = 0.0465200 * 0.0953102 + 0.1000835 * 0.0512933
    assert ranges.rogers_satchell(history)[2] == pytest.approx(by_hand, abs=1e-7)


def test_a_range_is_widened_to_open_and_close() -> None:
    narrow, wide = candle(100.0, 104.0, 101.0, 105.0), candle(100.0, 105.0, 100.0, 105.0)
    for estimate in (ranges.garman_klass, ranges.rogers_satchell):
        assert estimate(narrow)[2] == estimate(wide)[2]


def test_a_bar_without_a_range_counts_with_its_squared_return() -> None:
    history = candle(105.0, 105.0, 105.0, 105.0)
    assert ranges.garman_klass(history)[2] == pytest.approx(0.0025)
    assert ranges.rogers_satchell(history)[2] == pytest.approx(0.0025)


def test_a_price_that_is_not_above_zero_has_no_range() -> None:
    assert np.isnan(ranges.garman_klass(candle(100.0, 110.0, -1.0, 105.0))[2])


def test_the_gap_is_from_the_close_before_to_the_open() -> None:
    gap = ranges.overnight(candle(102.0, 110.0, 95.0, 105.0))
    assert gap[2] == pytest.approx(math.log(1.02) ** 2)
    assert np.isnan(gap[0])


def test_ranges_of_a_random_walk_tell_its_variance_and_only_one_forgives_a_drift() -> None:
    rng = np.random.default_rng(0)
    for drift in (0.0, 0.02):
        steps = 0.01 / 90 * rng.standard_normal((800, 8100)) + drift / 8100
        path = np.exp(np.cumsum(steps, axis=1))
        opened, high, low = np.ones(800), np.maximum(path.max(1), 1.0), np.minimum(path.min(1), 1.0)
        whole = np.zeros(800, np.int64)
        history = History(
            opened,
            high,
            low,
            path[:, -1],
            opened,
            opened,
            np.arange(800),
            whole,
            whole,
            np.zeros(800, np.int8),
        )
        assert ranges.rogers_satchell(history).mean() == pytest.approx(1e-4, rel=0.1)
        is_right = abs(ranges.garman_klass(history).mean() - 1e-4) < 1e-5
        assert is_right == (drift == 0.0)


@pytest.mark.parametrize("name", ["garman_klass", "rogers_satchell", "har"])
def test_a_range_is_rescaled_to_the_returns_of_training(name: str) -> None:
    history = made_history(assets=MOVING)
    distribution = forecast_of(name, history).distribution
    assert isinstance(distribution, ScaledShape)
    targets = history.targets(Split.TRAIN)
    for category in (0, 1):
        rows = targets[history.category[targets] == category]
        mean_square = np.mean(distribution.scale[rows] ** 2)
        assert mean_square == pytest.approx(np.mean(history.change[rows] ** 2), rel=1e-6)


def test_har_is_the_least_squares_fit_of_statsmodels() -> None:
    history = made_history(assets=MOVING)
    daily = pd.Series(np.sqrt(ranges.garman_klass(history) + ranges.overnight(history)))
    frame = pd.DataFrame({"daily": daily, "asset": history.asset})
    usual = [
        daily[history.targets(Split.TRAIN)][history.asset[history.targets(Split.TRAIN)] == a].mean()
        for a in range(3)
    ]
    columns = {}
    for window in (1, 5, 22):
        mean = frame.groupby("asset")["daily"].transform(
            lambda one, window=window: (
                one.dropna().rolling(window, min_periods=1).mean().reindex(one.index).shift()
            )
        )
        columns[window] = mean.fillna(pd.Series(np.array(usual)[history.asset]))
    past = tuple(columns[window].to_numpy() for window in (1, 5, 22))
    rows = history.targets(Split.TRAIN)
    settings = forecast_of("har", history).settings
    for category in (0, 1):
        members = rows[history.category[rows] == category]
        design = sm.add_constant(np.stack([values[members] for values in past], axis=1))
        theirs = sm.OLS(daily[members].to_numpy(), design).fit().params
        found = [settings[f"{name}_{category}"] for name in har.NAMES]
        np.testing.assert_allclose(found, theirs, rtol=1e-8)


def test_har_forecasts_the_line_of_its_coefficients() -> None:
    history = made_history(assets=(0,))
    found = forecast_of("har", history)
    assert isinstance(found.distribution, ScaledShape)
    daily = np.sqrt(ranges.garman_klass(history) + ranges.overnight(history))
    constant, day, week, month = (found.settings[name] for name in har.NAMES)
    rows = range(50, len(daily))
    expected = np.array([
        constant + day * daily[n - 1] + week * daily[n - 5 : n].mean() + month * daily[n - 22 : n].mean()
        for n in rows
    ])  # fmt: skip
    factor = found.distribution.scale[50:] / expected
    np.testing.assert_allclose(factor, factor[0], rtol=1e-9)


# The order of the assets.


@pytest.mark.parametrize(
    ("name", "first", "last", "sign"),
    [("reversal_1", 2, 1, -1), ("reversal_5", 6, 1, -1), ("momentum", 121, 21, 1)],
)
def test_signals_of_trend_are_log_ratios_of_closes(name: str, first: int, last: int, sign: int) -> None:
    history = made_history(assets=(0,))
    signal = forecast_of(name, history).signal
    assert signal is not None
    n = np.arange(130, 500)
    np.testing.assert_allclose(
        signal[n], sign * np.log(history.close[n - last] / history.close[n - first]), atol=1e-12
    )


def test_low_volatility_prefers_the_calm() -> None:
    history = made_history(assets=MOVING)
    signal = forecast_of("low_volatility", history).signal
    assert signal is not None
    last = [rows.stop - 1 for _, rows in history.runs]
    expected = [-np.std(history.change[n - 20 : n], ddof=1) for n in last]
    np.testing.assert_allclose(signal[last], expected, rtol=1e-9)


def test_a_lone_bar_has_no_trend() -> None:
    history = made_history(assets=(0, LATE))
    first = [rows.start for _, rows in history.runs]
    for name in ("reversal_1", "reversal_5", "momentum"):
        signal = forecast_of(name, history).signal
        assert signal is not None
        assert signal[first].tolist() == [0.0, 0.0]


def test_unused_rows_do_not_matter() -> None:
    """A bar that belongs to no split changes no fit."""
    history = made_history(assets=MOVING)
    rows = np.flatnonzero(history.time < history.time.max())
    cut = keep(history, rows)
    assert forecast_of("har", cut).settings == forecast_of("har", history).settings


def test_a_line_that_leads_below_zero_ends_at_a_tenth_of_the_months_volatility(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = made_history(assets=(0,))
    monkeypatch.setattr(har, "fit", lambda *_: np.array([[-1.0, 0.0, 0.0, 0.0]]))
    found = forecast_of("har", history).distribution
    assert isinstance(found, ScaledShape)
    daily = np.sqrt(ranges.garman_klass(history) + ranges.overnight(history))
    month = np.array([daily[n - 22 : n].mean() for n in range(50, 500)])
    factor = found.scale[50:] / (0.1 * month)
    np.testing.assert_allclose(factor, factor[0], rtol=1e-9)
