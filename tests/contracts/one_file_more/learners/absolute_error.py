"""Forecast a number by absolute error in model units.

Axes: B samples, T bars, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from stockpred.config.base import Experiment
from stockpred.train.learner import Batch, Metrics, Networks

TASKS = ("forecast",)
MODEL = "inputs_BTF -> forecast_B"


class AbsoluteError:
    """One network, ``model``: inputs_BTF -> forecast_B."""

    selection_metric = "mae"

    def __init__(self, model: nn.Module) -> None:
        self.networks: dict[str, nn.Module] = {"model": model}

    def updates(self, batch: Batch, networks: Networks) -> Iterator[tuple[str, Tensor]]:
        error_B = networks["model"](batch["inputs"]) - batch["target"]
        yield "model", error_B.abs().sum() / batch["loss_weight"]

    def evaluate(self, batch: Batch, networks: Networks) -> Metrics:
        error_B = networks["model"](batch["inputs"]) - batch["target"]
        return {"mae": (error_B.abs().sum(), torch.tensor(float(len(error_B))))}

    def forecast(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            forecast_B: Tensor = self.networks["model"].eval()(batch["inputs"])
        return forecast_B

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state


def build(experiment: Experiment, model: nn.Module) -> AbsoluteError:
    """Return the learner of a new model."""
    return AbsoluteError(model)
