"""What holds for every rival that is found: it reads no future, and it always has an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from stockpred.data.splits import Split
from stockpred.score import rival
from stockpred.score.distributions import PointMass
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast
from tests.stockpred.score.made_history import LATE, STILL, first_time, keep, made_history

LEVELS = (0.05, 0.5, 0.95)
pytestmark = pytest.mark.parametrize("name", rival.names())


def statements(forecast: RivalForecast) -> np.ndarray:
    """Return all that is said about each bar, [N, S]."""
    found = [values[:, None] for values in (forecast.expected_return, forecast.signal) if values is not None]
    if forecast.distribution is not None:
        found += [forecast.distribution.mean()[:, None], forecast.distribution.quantiles(LEVELS)]
    return np.concatenate(found, axis=1)


def test_it_says_what_its_kind_promises(name: str) -> None:
    found = rival.load(name)
    forecast = found.forecast(made_history())
    assert found.LABEL
    assert (forecast.signal is not None) is (found.KIND is Kind.CROSS_SECTION)
    assert (forecast.distribution is None) is (found.KIND is Kind.CROSS_SECTION)
    assert isinstance(forecast.distribution, PointMass) is (found.KIND is Kind.POINT)
    assert forecast.expected_return is not None or found.KIND is not Kind.POINT
    assert all(np.isfinite(value) for value in forecast.settings.values())


def with_another_future(history: History, time: int) -> History:
    """Return bars of which those from ``time`` on are wholly different ones."""
    rng = np.random.default_rng(99)
    later = history.time >= time
    factor = np.where(later, np.exp(rng.standard_normal(len(later))), 1.0)
    other = np.where(later, 0.3 * rng.standard_normal(len(later)), history.change)
    return replace(
        history,
        open=history.open * factor,
        high=history.high * factor * np.where(later, 1.7, 1.0),
        low=history.low * factor * np.where(later, 0.6, 1.0),
        close=history.close * factor,
        volume=np.where(later, np.nan, history.volume),
        change=np.where(np.isnan(history.change), np.nan, other),
    )


def up_to(history: History, time: int) -> History:
    return keep(history, np.flatnonzero(history.time <= time))


@pytest.mark.parametrize("change_future", [with_another_future, up_to], ids=["perturbed", "cut off"])
@pytest.mark.parametrize("days_into_test", [0, 1, 60])
def test_forecasts_up_to_a_time_do_not_read_what_comes_from_then_on(
    name: str, change_future: Callable[[History, int], History], days_into_test: int
) -> None:
    """The forecast of the bar at that time included, whose own return lies in the future."""
    history = made_history()
    time = np.unique(history.time[history.time >= first_time(history, Split.TEST)])[days_into_test]
    other = change_future(history, time)
    found, again = (rival.load(name).forecast(one) for one in (history, other))
    assert dict(found.settings) == dict(again.settings)
    np.testing.assert_array_equal(
        statements(found)[history.time <= time], statements(again)[other.time <= time]
    )


def test_what_lies_in_the_future_of_training_and_validation_fits_nothing(name: str) -> None:
    """Returns that belong to no split count as little as those of the test."""
    history = made_history()
    begin = first_time(history, Split.TEST)
    outside = np.where(history.time >= begin, np.int8(Split.OUTSIDE), history.split)
    other = replace(with_another_future(history, begin), split=outside)
    found, again = (rival.load(name).forecast(one) for one in (history, other))
    assert dict(found.settings) == dict(again.settings)
    before = history.time <= begin
    np.testing.assert_array_equal(statements(found)[before], statements(again)[before])


def assert_every_bar_has_an_answer(name: str, history: History) -> None:
    forecast = rival.load(name).forecast(history)
    assert np.isfinite(statements(forecast)).all()
    if forecast.distribution is None:
        return
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        targets = history.targets(split)
        distribution, outcome = forecast.distribution.at(targets), history.change[targets]
        density = distribution.log_density(outcome)
        assert np.isfinite(distribution.crps(outcome)).all()
        assert ((distribution.pit(outcome) >= 0.0) & (distribution.pit(outcome) <= 1.0)).all()
        assert density is None or np.isfinite(density).all()


@pytest.mark.parametrize(
    "history",
    [
        made_history(),
        made_history(assets=(0,)),
        made_history(assets=(0, LATE)),
        made_history(assets=(1, LATE)),
        made_history(assets=(STILL,)),
        made_history(num_days=40),
        replace(made_history(), volume=np.full(len(made_history().asset), np.nan)),
    ],
    ids=[
        "a market",
        "one asset",
        "one of the category without training",
        "the only one of its category without training",
        "a price that never moves",
        "40 days",
        "no volume",
    ],
)
def test_there_is_an_answer_at_every_bar_of(name: str, history: History) -> None:
    assert_every_bar_has_an_answer(name, history)


def test_without_validation_there_is_an_answer(name: str) -> None:
    history = made_history()
    split = np.where(history.split == Split.VALIDATION, np.int8(Split.OUTSIDE), history.split)
    assert_every_bar_has_an_answer(name, replace(history, split=split))


def test_an_assets_forecast_in_the_test_is_its_own(name: str) -> None:
    """Another asset's test bars change nothing."""
    history = made_history()
    begin = first_time(history, Split.TEST)
    changed = with_another_future(history, begin)
    first = history.asset == 0
    mixed = replace(
        history,
        **{
            column: np.where(first, getattr(history, column), getattr(changed, column))
            for column in ("open", "high", "low", "close", "volume", "change")
        },
    )
    found, again = (statements(rival.load(name).forecast(one)) for one in (history, mixed))
    np.testing.assert_array_equal(found[first], again[first])
