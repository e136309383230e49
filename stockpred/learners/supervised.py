"""Forecast a number by squared error in model units.

Axes: B samples, T bars, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from hpc.base.errors import UserError
from stockpred.config.base import Experiment
from stockpred.train.learner import (
    Batch,
    Direction,
    Evaluation,
    Learner,
    Networks,
    Update,
    evaluation_mode,
)

TASKS = ("forecast",)
MODEL = "inputs_BTF -> forecast_B"
NETWORKS = ("model",)
METRICS: Mapping[str, Direction] = {"mse": "min", "skill": "max"}

SMALLEST_VARIATION = 1e-12


class Supervised(Learner):
    """One network, ``model``: inputs_BTF -> forecast_B."""

    metrics = METRICS

    def __init__(self, model: nn.Module) -> None:
        self.networks: dict[str, nn.Module] = {"model": model}

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        error_B = predict(networks.synced("model"), batch) - batch["target"]
        yield "model", error_B.square().sum() / batch["loss_weight"]

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        """Return the squared error in model units, and ``skill``: by which share persistence's is larger."""
        target_B = batch["target"]
        squared = (predict(networks.local("model"), batch) - target_B).square().sum()
        of_persistence = (batch["persistence"] - target_B).square().sum()
        return Evaluation(
            {
                "mse": (squared, torch.full_like(squared, len(target_B))),
                "skill": (of_persistence - squared, of_persistence.clamp_min(SMALLEST_VARIATION)),
            }
        )

    def forecast(self, batch: Batch) -> Tensor:
        """Return forecast_B in model units: no dropout, no gradient."""
        model = self.networks["model"]
        with torch.no_grad(), evaluation_mode(model):
            return predict(model, batch)


def build(experiment: Experiment, model: nn.Module) -> Supervised:
    """Return the learner of a new model."""
    return Supervised(model)


def predict(model: nn.Module, batch: Batch) -> Tensor:
    """Return forecast_B in model units; raise UserError for a model that gives another shape.

    A forecast of (B, 1) against targets of (B,) would spread to (B, B) without a word.
    """
    forecast_B: Tensor = model(batch["inputs"]).float()
    if forecast_B.shape != batch["inputs"].shape[:1]:
        raise UserError(
            f"the model returns {tuple(forecast_B.shape)} for inputs {tuple(batch['inputs'].shape)}",
            where="model.name",
            fix="return one forecast for each sample: (B,), as with squeeze(-1)",
        )
    return forecast_B
