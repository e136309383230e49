"""Forecast a number by absolute error in model units.

Axes: B samples, T bars, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from stockpred.config.base import Experiment
from stockpred.train.learner import Batch, Direction, Evaluation, Learner, Networks, Update

TASKS = ("forecast",)
MODEL = "inputs_BTF -> forecast_B"
NETWORKS = ("model",)
METRICS: Mapping[str, Direction] = {"mae": "min"}


class AbsoluteError(Learner):
    """One network, ``model``: inputs_BTF -> forecast_B."""

    metrics = METRICS

    def __init__(self, model: nn.Module) -> None:
        self.networks: dict[str, nn.Module] = {"model": model}

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        error_B = networks.synced("model")(batch["inputs"]) - batch["target"]
        yield "model", error_B.abs().sum() / batch["loss_weight"]

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        error_B = networks.local("model")(batch["inputs"]) - batch["target"]
        return Evaluation({"mae": (error_B.abs().sum(), torch.tensor(float(len(error_B))))})

    def forecast(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            forecast_B: Tensor = self.networks["model"].eval()(batch["inputs"])
        return forecast_B


def build(experiment: Experiment, model: nn.Module) -> AbsoluteError:
    """Return the learner of a new model."""
    return AbsoluteError(model)
