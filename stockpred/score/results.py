"""The results of scoring one split as frozen data: written by the tasks, read by reports and summaries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from hpc.base import records
from stockpred.score.claims import Claim
from stockpred.score.correlation import Correlation
from stockpred.score.inference import Estimate, Proportion
from stockpred.score.metrics import EvaluatedModel

POOLED = "all"
"""The name of the group of all seen assets."""


@dataclass(frozen=True)
class PriceErrors:
    """Errors of the forecast close in the currency of the quotes; R2 is against the mean scored close."""

    mse: float
    mae: float
    r_squared: float | None


@dataclass(frozen=True)
class ForecasterScores:
    """A forecaster's row on one group of bars; None where it makes no such statement.

    ``nats`` of the next token; ``crps_bp``, ``mae_bp``, ``rmse_bp`` in basis points of simple return;
    ``log_loss`` the negative log density of the return, in nats. ``skill`` on returns is 1 - MSE / MSE of the
    last value. ``coverage`` maps "50", "80", "90" to the share of outcomes inside that central interval,
    ``coverage_curve`` does so for ``CURVE_LEVELS``. ``spread_bp`` is the standard deviation of the expected
    return over the bars, ``always`` "up" or "down" where its sign never changes.
    """

    name: str
    label: str
    num_bars: int
    nats: float | None
    crps_bp: float | None
    log_loss: float | None
    mae_bp: float | None
    rmse_bp: float | None
    r_squared: float | None
    skill: float | None
    skill_interval: Estimate | None
    direction: Proportion | None
    coverage: dict[str, float] | None
    coverage_curve: tuple[float, ...] | None
    ic: Correlation | None
    rank_ic: Correlation | None
    spread_bp: float | None
    always: str | None
    price: PriceErrors | None


@dataclass(frozen=True)
class GroupScores:
    """The model and its rivals on the same bars: those of one category, or of all that are seen."""

    name: str
    num_bars: int
    num_dates: int
    num_assets: int
    first_time: str
    last_time: str
    model: ForecasterScores
    rivals: tuple[ForecasterScores, ...]
    claims: tuple[Claim, ...]

    def claim(self, measure: str) -> Claim | None:
        """Return the claim in one measure; None where model or rivals make no such statement."""
        return next((claim for claim in self.claims if claim.measure == measure), None)

    def rival(self, name: str) -> ForecasterScores:
        return next(rival for rival in self.rivals if rival.name == name)


@dataclass(frozen=True)
class SplitScores:
    """One split, scored once: categories first, all seen assets together, unseen assets by category.

    ``unseen`` assets have no training bar, and are in no other group. ``fitted`` holds what was fitted or
    chosen for each rival. ``num_looks`` counts how often these bars were looked at as a test, this time
    included; None for validation. Times are dates in UTC.
    """

    split: str
    evaluated: EvaluatedModel
    pooled: GroupScores
    categories: tuple[GroupScores, ...]
    unseen: tuple[GroupScores, ...]
    fitted: Mapping[str, Mapping[str, float]]
    num_looks: int | None = None


CURVE_LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))

_ADAPTER = TypeAdapter(SplitScores)


def write(path: Path, scores: SplitScores) -> None:
    records.write_json(path, json.loads(_ADAPTER.dump_json(scores)))


def read(path: Path) -> SplitScores:
    """Read what ``write`` wrote; raise ValueError or KeyError for a file of another version."""
    return _ADAPTER.validate_json(path.read_bytes())
