"""The schema of experiments that tell whether an asset's next close is higher."""

from __future__ import annotations

from stockpred.config.base import Experiment
from stockpred.config.forecast import RegressorConfig


class DirectionExperiment(Experiment):
    """One asset's returns, and a model that scores the next one's sign."""

    model: RegressorConfig


SCHEMA = DirectionExperiment
