"""Lay the model beside its rivals on exactly the same bars, group by group, and state the claims.

Axis: M scored bars of one split. Every forecaster is reduced to a few numbers per bar before it comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from stockpred.data.arrays import Bools
from stockpred.data.times import iso_date
from stockpred.score import claims, correlation, inference, metrics
from stockpred.score.claims import Claim
from stockpred.score.correlation import Correlation
from stockpred.score.forecasts import Outcomes
from stockpred.score.inference import Estimate, Proportion
from stockpred.score.metrics import EvaluatedModel, Floats
from stockpred.score.results import (
    CURVE_LEVELS,
    POOLED,
    ForecasterScores,
    GroupScores,
    PriceErrors,
    SplitScores,
)

BP = 1e4
_BANDS = ("50", "80", "90")


@dataclass(frozen=True, eq=False)
class BarScores:
    """One forecaster on every scored bar, [M] each; None where it makes no such statement.

    ``nats`` of the token; ``crps`` in return; ``log_loss`` the negative log density of the return; ``pit`` in
    [0, 1]. The sign of ``call`` is the direction that it bets on, the order of ``signal`` within a time its
    ranking of assets; both are ``expected_return`` where it has one.
    """

    name: str
    label: str
    nats: Floats | None = None
    crps: Floats | None = None
    log_loss: Floats | None = None
    pit: Floats | None = None
    expected_return: Floats | None = None
    call: Floats | None = None
    signal: Floats | None = None

    def at(self, rows: Any) -> BarScores:
        """Return the scores on some of the bars."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        own = {name: None if array is None else array[rows] for name, array in arrays.items()}
        return BarScores(self.name, self.label, **own)

    def require_length(self, num_bars: int) -> None:
        """Refuse a forecaster that was scored on other bars."""
        arrays = [getattr(self, field.name) for field in fields(self)[2:]]
        if any(array is not None and array.shape != (num_bars,) for array in arrays):
            raise RuntimeError(f"{self.name} was not scored on the {num_bars} bars of the others")


def score_split(
    evaluated: EvaluatedModel,
    outcomes: Outcomes,
    model: BarScores,
    rivals: Sequence[BarScores],
    *,
    with_prices: bool = False,
    fitted: Mapping[str, Mapping[str, float]] | None = None,
) -> SplitScores:
    """Score the model and its rivals on the bars of one split.

    Raises UserError where there is no bar to score, RuntimeError where bars are scored twice or a forecaster
    was scored on others. ``with_prices`` adds errors of the close, which only say something for one asset.
    """
    outcomes.require_each_once()
    for forecaster in (model, *rivals):
        forecaster.require_length(len(outcomes))

    def group(name: str, rows: Bools) -> GroupScores:
        own = [forecaster.at(rows) for forecaster in (model, *rivals)]
        return _Group(outcomes.at(rows), own[0], tuple(own[1:]), with_prices).scores(name)

    seen = ~outcomes.is_unseen
    is_judged = seen if seen.any() else np.ones(len(outcomes), np.bool_)
    return SplitScores(
        split=outcomes.split.text,
        evaluated=evaluated,
        pooled=group(POOLED, is_judged),
        categories=tuple(group(name, rows) for name, rows in _by_category(outcomes, seen)),
        unseen=tuple(group(name, rows) for name, rows in _by_category(outcomes, ~seen)),
        fitted=dict(fitted or {}),
    )


def _by_category(outcomes: Outcomes, wanted: Bools) -> Iterator[tuple[str, Bools]]:
    for label in np.unique(outcomes.category[wanted]):
        yield outcomes.categories[int(label)], wanted & (outcomes.category == label)


@dataclass(frozen=True)
class _Group:
    """The forecasters on one group of bars."""

    outcomes: Outcomes
    model: BarScores
    rivals: tuple[BarScores, ...]
    with_prices: bool

    def scores(self, name: str) -> GroupScores:
        time = self.outcomes.time
        return GroupScores(
            name=name,
            num_bars=len(time),
            num_dates=len(np.unique(self.outcomes.date)),
            num_assets=len(np.unique(self.outcomes.asset)),
            first_time=iso_date(time.min()),
            last_time=iso_date(time.max()),
            model=self._row(self.model),
            rivals=tuple(self._row(rival) for rival in self.rivals),
            claims=tuple(self._claims()),
        )

    def _row(self, own: BarScores) -> ForecasterScores:
        outcome, expected = self.outcomes.realised_return, own.expected_return
        squared = None if expected is None else (expected - outcome) ** 2
        return ForecasterScores(
            name=own.name,
            label=own.label,
            num_bars=len(outcome),
            nats=_mean(own.nats),
            crps_bp=_mean(own.crps, BP),
            log_loss=_mean(own.log_loss),
            mae_bp=None if expected is None else BP * float(np.abs(expected - outcome).mean()),
            rmse_bp=None if squared is None else BP * float(np.sqrt(squared.mean())),
            r_squared=None if expected is None else metrics.r_squared(expected, outcome),
            skill=None if squared is None else metrics.skill(squared, outcome**2),
            skill_interval=self._skill_interval(squared),
            direction=self._direction(own),
            coverage=None
            if own.pit is None
            else {band: metrics.coverage(own.pit, int(band) / 100) for band in _BANDS},
            coverage_curve=None
            if own.pit is None
            else tuple(metrics.coverage(own.pit, level) for level in CURVE_LEVELS),
            ic=self._ic(own),
            rank_ic=correlation.averaged(self._rank_ic[own.name]) if own.name in self._rank_ic else None,
            spread_bp=None if expected is None else BP * _spread(expected),
            always=None if expected is None else _only_sign(expected),
            price=self._price(expected),
        )

    def _skill_interval(self, squared: Floats | None) -> Estimate | None:
        reference = self.outcomes.realised_return**2
        if squared is None or np.array_equal(squared, reference):
            return None
        return inference.skill_interval(squared, reference, self.outcomes.date)

    def _direction(self, own: BarScores) -> Proportion | None:
        call = own.expected_return if own.call is None else own.call
        if call is None:
            return None
        return inference.direction_accuracy(call, self.outcomes.realised_return, self.outcomes.date)

    def _ic(self, own: BarScores) -> Correlation | None:
        signal = _signal(own)
        if signal is None or not self._has_cross_section:
            return None
        outcome, time = self.outcomes.realised_return, self.outcomes.time
        return correlation.information_coefficient(signal, outcome, time, ranked=False)

    @cached_property
    def _rank_ic(self) -> Mapping[str, pd.Series]:
        """The RankIC at each time of every forecaster that ranks assets, by its name."""
        if not self._has_cross_section:
            return {}
        outcome, time = self.outcomes.realised_return, self.outcomes.time
        signals = {own.name: _signal(own) for own in (self.model, *self.rivals)}
        return {
            name: correlation.by_time(signal, outcome, time, ranked=True)
            for name, signal in signals.items()
            if signal is not None
        }

    @property
    def _has_cross_section(self) -> bool:
        """Whether a time can have enough assets at all: to look at each time for nothing takes long."""
        return len(np.unique(self.outcomes.asset)) >= correlation.MIN_ASSETS

    def _price(self, expected: Floats | None) -> PriceErrors | None:
        if expected is None or not self.with_prices:
            return None
        previous = self.outcomes.previous_close
        forecast, close = previous * (1.0 + expected), previous * (1.0 + self.outcomes.realised_return)
        error = forecast - close
        return PriceErrors(
            float(np.square(error).mean()),
            float(np.abs(error).mean()),
            metrics.r_squared(forecast, close),
        )

    def _claims(self) -> Iterator[Claim]:
        for measure, loss in _LOSSES.items():
            of_model = loss(self.model, self.outcomes)
            losses = {rival.name: loss(rival, self.outcomes) for rival in self.rivals}
            differences = {
                name: self._difference(of_model, own)
                for name, own in losses.items()
                if of_model is not None and own is not None
            }
            if differences:
                yield claims.of(measure, differences)
        against = {rival.name: self._rank_ic_difference(rival) for rival in self.rivals}
        known = {name: found for name, found in against.items() if found is not None}
        if known:
            yield claims.of(RANK_IC, known)

    def _difference(self, loss: Floats, of_rival: Floats) -> tuple[float, Estimate | None]:
        found = inference.diebold_mariano(loss, of_rival, self.outcomes.date)
        return float((loss - of_rival).mean()), found

    def _rank_ic_difference(self, rival: BarScores) -> tuple[float, Estimate | None] | None:
        """Estimate the rival's RankIC less the model's over the times that have both."""
        of_rival, of_model = (self._rank_ic.get(own.name) for own in (rival, self.model))
        if of_rival is None or of_model is None:
            return None
        difference = (of_rival - of_model).dropna()
        if difference.empty:
            return None
        values = difference.to_numpy(np.float64)
        return float(values.mean()), inference.mean_by_group(values, difference.index.to_numpy(np.int64))


CRPS, LOG_LOSS, SQUARED_ERROR, NATS, RANK_IC = "crps_bp", "log_loss", "squared_error", "nats", "rank_ic"
"""The measures of claims; squared errors of the expected return in squared percent."""


def _crps_bp(own: BarScores, outcomes: Outcomes) -> Floats | None:
    return None if own.crps is None else BP * own.crps


def _squared_error(own: BarScores, outcomes: Outcomes) -> Floats | None:
    if own.expected_return is None:
        return None
    return np.square(100.0 * (own.expected_return - outcomes.realised_return))


_LOSSES: Mapping[str, Callable[[BarScores, Outcomes], Floats | None]] = {
    CRPS: _crps_bp,
    LOG_LOSS: lambda own, outcomes: own.log_loss,
    SQUARED_ERROR: _squared_error,
    NATS: lambda own, outcomes: own.nats,
}


def _signal(own: BarScores) -> Floats | None:
    return own.expected_return if own.signal is None else own.signal


def _mean(values: Floats | None, scale: float = 1.0) -> float | None:
    return None if values is None else scale * float(values.mean())


def _spread(expected: Floats) -> float:
    """Return the standard deviation; exactly zero for a constant, of which rounding would leave dust."""
    return float(expected.std()) if np.ptp(expected) > 0.0 else 0.0


def _only_sign(expected: Floats) -> str | None:
    """Return "up" or "down" where all expected returns have that sign."""
    if (expected > 0.0).all():
        return "up"
    return "down" if (expected < 0.0).all() else None
