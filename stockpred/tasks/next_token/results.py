"""The results of a next-token test as frozen data: written by the evaluation, read by report and summary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from hpc.base import records
from stockpred.score.correlation import Correlation
from stockpred.score.inference import Estimate, Proportion
from stockpred.score.metrics import EvaluatedModel

_ROUNDING_NATS = 1e-9


@dataclass(frozen=True)
class TokenScores:
    """A forecaster's row. Errors in basis points of log return; None where it makes no such statement.

    ``coverage`` maps "50", "80", "90" to the share of outcomes inside that central interval;
    ``coverage_curve`` does so for the results' ``curve_levels``. ``versus_last_value`` is the Diebold-Mariano
    comparison of squared errors, negative where this forecaster is better. ``model_nats_difference`` of a
    rival is the model's nats less its own; None in results that were written before it was recorded.
    """

    name: str
    label: str
    num_bars: int
    nats: float | None
    bits: float | None
    crps_bp: float | None
    mae_bp: float | None
    rmse_bp: float | None
    r_squared: float | None
    skill: float | None
    versus_last_value: Estimate | None
    direction: Proportion | None
    coverage: dict[str, float] | None
    coverage_curve: tuple[float, ...] | None
    model_nats_difference: Estimate | None = None


@dataclass(frozen=True)
class CategoryScores:
    """The model beside the better token rival and the EWMA normal on one category's bars.

    ``nats_difference`` is None where they are of one date.
    """

    category: str
    num_assets: int
    num_bars: int
    nats: float
    rival_nats: float
    nats_difference: Estimate | None
    crps_bp: float
    ewma_crps_bp: float
    skill: float | None
    direction: Proportion | None
    coverage_90: float

    @property
    def gain(self) -> float:
        """Nats per bar below the rival."""
        return self.rival_nats - self.nats


@dataclass(frozen=True)
class NextTokenResults:
    """The whole test. Differences are model minus rival, so negative is better; times are dates in UTC.

    A test on one date has no differences, because no error can be estimated: it claims nothing.
    """

    __test__ = False  # its name begins like a test class of pytest

    evaluated: EvaluatedModel
    num_bars: int
    num_dates: int
    num_assets: int
    first_time: str
    last_time: str
    model: TokenScores
    rivals: tuple[TokenScores, ...]
    best_token_rival: str
    nats_difference: Estimate | None
    best_crps_rival: str
    crps_bp_difference: Estimate | None
    ic: Correlation | None
    rank_ic: Correlation | None
    categories: tuple[CategoryScores, ...]
    curve_levels: tuple[float, ...]
    unigram_alpha: float
    bigram_tau: float

    @property
    def gain(self) -> float:
        """Nats per bar below the better token rival."""
        if self.nats_difference is not None:
            return -self.nats_difference.mean
        return (self.rival(self.best_token_rival).nats or 0.0) - (self.model.nats or 0.0)

    @property
    def beats_token_rivals(self) -> bool:
        """Whether the whole interval of the difference in nats lies below zero."""
        return _is_below_zero(self.nats_difference, _ROUNDING_NATS)

    @property
    def loses_to_token_rival(self) -> bool:
        return _is_above_zero(self.nats_difference)

    @property
    def beats_crps_rival(self) -> bool:
        return _is_below_zero(self.crps_bp_difference)

    @property
    def loses_to_crps_rival(self) -> bool:
        return _is_above_zero(self.crps_bp_difference)

    @property
    def beats_last_value(self) -> bool:
        return _is_below_zero(self.model.versus_last_value)

    @property
    def loses_to_last_value(self) -> bool:
        return _is_above_zero(self.model.versus_last_value)

    def rival(self, name: str) -> TokenScores:
        return next(rival for rival in self.rivals if rival.name == name)


def _is_below_zero(difference: Estimate | None, margin: float = 0.0) -> bool:
    return difference is not None and difference.high < -margin


def _is_above_zero(difference: Estimate | None) -> bool:
    return difference is not None and difference.low > 0.0


_ADAPTER = TypeAdapter(NextTokenResults)


def write(path: Path, results: NextTokenResults) -> None:
    records.write_json(path, json.loads(_ADAPTER.dump_json(results)))


def read(path: Path) -> NextTokenResults:
    return _ADAPTER.validate_json(path.read_bytes())
