"""The results of a next-token test as frozen data: written by the evaluation, read by report and summary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from hpc.base import records
from stockpred.score.metrics import Correlation, Estimate, EvaluatedModel, Proportion

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
    """The model beside the better token rival and the EWMA normal on one category's bars."""

    category: str
    num_assets: int
    num_bars: int
    nats: float
    rival_nats: float
    nats_difference: Estimate
    crps_bp: float
    ewma_crps_bp: float
    skill: float | None
    direction: Proportion | None
    coverage_90: float


@dataclass(frozen=True)
class NextTokenResults:
    """The whole test. Differences are model minus rival, so negative is better; times are dates in UTC."""

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
    nats_difference: Estimate
    best_crps_rival: str
    crps_bp_difference: Estimate
    ic: Correlation | None
    rank_ic: Correlation | None
    categories: tuple[CategoryScores, ...]
    curve_levels: tuple[float, ...]
    unigram_alpha: float
    bigram_tau: float

    @property
    def beats_token_rivals(self) -> bool:
        """Whether the whole interval of the difference in nats lies below zero."""
        return self.nats_difference.high < -_ROUNDING_NATS

    @property
    def beats_crps_rival(self) -> bool:
        return self.crps_bp_difference.high < 0.0

    @property
    def beats_last_value(self) -> bool:
        versus = self.model.versus_last_value
        return versus is not None and versus.high < 0.0

    def rival(self, name: str) -> TokenScores:
        return next(rival for rival in self.rivals if rival.name == name)


_ADAPTER = TypeAdapter(NextTokenResults)


def write(path: Path, results: NextTokenResults) -> None:
    records.write_json(path, json.loads(_ADAPTER.dump_json(results)))


def read(path: Path) -> NextTokenResults:
    return _ADAPTER.validate_json(path.read_bytes())
