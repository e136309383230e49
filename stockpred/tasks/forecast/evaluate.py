"""Score forecasts of one asset's next close on one split, beside the last value, drift and always-up.

Axis: M scored bars. Returns are simple: the next close over the last, less 1.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from hpc.base.errors import UserError
from stockpred.data.arrays import Floats, Ints
from stockpred.data.splits import Split
from stockpred.score import forecasts
from stockpred.score.compare import BarScores, score_split
from stockpred.score.field import Field
from stockpred.score.forecasts import Outcomes
from stockpred.score.metrics import EvaluatedModel
from stockpred.score.results import SplitScores
from stockpred.tasks.forecast.dataset import AssetSeries


def score(
    series: AssetSeries,
    samples_M: Ints,
    price_M: Floats,
    *,
    split: Split,
    evaluated: EvaluatedModel,
    field: Field,
) -> tuple[SplitScores, pd.DataFrame]:
    """Score the forecast prices of a split's samples; return the scores and the table of forecasts.

    Raises UserError where there is nothing to score, and for a model that forecasts NaN or infinity.
    """
    outcomes = outcomes_of(series, samples_M, split)
    expected_M = price_M / outcomes.previous_close - 1.0
    _require_numbers(expected_M, evaluated.model)
    rivals = (
        *field.scores(series.row[samples_M + 1], outcomes.realised_return),
        BarScores("always_up", "Always up", call=np.ones(len(outcomes))),
    )
    model = BarScores(evaluated.model, evaluated.model, expected_return=expected_M)
    scores = score_split(evaluated, outcomes, model, rivals, with_prices=True, fitted=field.fitted)
    return scores, forecasts.table(outcomes, expected_M)


def outcomes_of(series: AssetSeries, samples_M: Ints, split: Split) -> Outcomes:
    """Return what came of the bars that a split's samples forecast."""
    nothing = np.zeros(len(samples_M), np.int64)
    is_seen = bool((series.split == Split.TRAIN).any())
    return Outcomes(
        split=split,
        symbols=(series.symbol,),
        categories=(series.category,),
        asset=nothing,
        category=nothing,
        known_at=np.asarray(series.time[samples_M]),
        time=np.asarray(series.time[samples_M + 1]),
        previous_close=np.asarray(series.close[samples_M]),
        realised_return=series.returns(samples_M),
        is_unseen=np.full(len(samples_M), not is_seen),
    )


def _require_numbers(expected_M: Floats, model: str) -> None:
    wrong = ~np.isfinite(expected_M)
    if wrong.any():
        raise UserError(
            f"{model} forecasts no number for {wrong.sum():,} of {len(wrong):,} bars",
            fix="lower training.lr, or scale the inputs (series.inputs=changes)",
        )
