"""The field of rivals that a model is judged against: every rival of some kinds, fitted on one history."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stockpred.data.arrays import Floats, Ints
from stockpred.score import rival
from stockpred.score.compare import BarScores
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast


class Field:
    """The rivals of some kinds, each fitted once; any of the history's bars can then be scored.

    Rivals whose library is not installed are left out, and named in ``missing``.
    """

    def __init__(self, history: History, kinds: tuple[Kind, ...]) -> None:
        loaded = {name: rival.load(name) for name in rival.names()}
        chosen = [name for kind in kinds for name, module in loaded.items() if module.KIND is kind]
        self._labels = {name: loaded[name].LABEL for name in chosen}
        self._forecasts = {name: loaded[name].forecast(history) for name in chosen}
        self.missing = rival.unavailable()

    @property
    def fitted(self) -> Mapping[str, Mapping[str, float]]:
        """What was fitted or chosen for each rival."""
        return {name: dict(forecast.settings) for name, forecast in self._forecasts.items()}

    def scores(self, rows_M: Ints, outcome_M: Floats) -> tuple[BarScores, ...]:
        """Score every rival's forecasts of the bars ``rows_M`` of the history."""
        return tuple(
            _scores(name, self._labels[name], forecast, rows_M, outcome_M)
            for name, forecast in self._forecasts.items()
        )


def _scores(name: str, label: str, forecast: RivalForecast, rows_M: Ints, outcome_M: Floats) -> BarScores:
    expected = None if forecast.expected_return is None else forecast.expected_return[rows_M]
    signal = None if forecast.signal is None else forecast.signal[rows_M]
    if forecast.distribution is None:
        return BarScores(name, label, expected_return=expected, signal=signal)
    distribution = forecast.distribution.at(rows_M)
    log_density = distribution.log_density(outcome_M)
    is_sure = log_density is None  # of one value: its intervals have no width, so they cover nothing
    return BarScores(
        name,
        label,
        crps=distribution.crps(outcome_M),
        log_loss=None if log_density is None else -np.asarray(log_density),
        pit=None if is_sure else distribution.pit(outcome_M),
        expected_return=expected,
        signal=signal,
    )
