"""The field of rivals: what it scores is what each rival forecast, on the bars asked for."""

from __future__ import annotations

import numpy as np
import pytest

from stockpred.data.splits import Split
from stockpred.score import rival
from stockpred.score.field import Field
from stockpred.score.history import History
from stockpred.score.rival import Kind


@pytest.fixture(scope="module")
def history() -> History:
    rng = np.random.default_rng(0)
    num_assets, num_days = 6, 300
    change = 0.02 * rng.standard_normal((num_assets, num_days))
    change[:, 0] = np.nan
    close = 100 * np.cumprod(1 + np.nan_to_num(change), axis=1)
    opened = close * (1 + 0.003 * rng.standard_normal(close.shape))
    split = np.repeat([Split.TRAIN, Split.VALIDATION, Split.TEST], (200, 50, 50)).astype(np.int8)
    return History(
        open=opened.ravel(),
        high=(1.01 * np.maximum(opened, close)).ravel(),
        low=(0.99 * np.minimum(opened, close)).ravel(),
        close=close.ravel(),
        volume=np.full(close.size, 1e6),
        change=change.ravel(),
        time=np.tile(np.arange(num_days) * 86_400_000_000_000, num_assets),
        asset=np.repeat(np.arange(num_assets), num_days),
        category=np.zeros(close.size, np.int64),
        split=np.tile(split, num_assets),
    )


def test_a_field_holds_the_rivals_of_its_kinds_in_their_order(history: History) -> None:
    field = Field(history, (Kind.CROSS_SECTION, Kind.POINT))
    rows = history.targets(Split.TEST)
    names = [scores.name for scores in field.scores(rows, history.change[rows])]
    kinds = [rival.load(name).KIND for name in names]
    assert kinds == sorted(kinds, key=(Kind.CROSS_SECTION, Kind.POINT).index)
    assert {"last_value", "drift", "reversal_1"} <= set(names)
    assert "ewma_normal" not in names


def test_scores_are_those_of_each_rivals_own_forecast(history: History) -> None:
    field = Field(history, (Kind.DISTRIBUTION,))
    rows = history.targets(Split.VALIDATION)[::7]
    outcome = history.change[rows]
    found = {scores.name: scores for scores in field.scores(rows, outcome)}
    own = rival.load("ewma_student_t").forecast(history)
    assert own.distribution is not None
    forecast = own.distribution.at(rows)
    scores = found["ewma_student_t"]
    np.testing.assert_array_equal(scores.crps, forecast.crps(outcome))
    np.testing.assert_array_equal(scores.log_loss, -forecast.log_density(outcome))
    np.testing.assert_array_equal(scores.pit, forecast.pit(outcome))
    assert field.fitted["ewma_student_t"] == dict(own.settings)
