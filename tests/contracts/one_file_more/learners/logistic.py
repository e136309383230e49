"""Learn a direction by logistic loss: the model's number is the log odds that the next close is higher.

Axes: B samples, T bars, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stockpred.config.base import Experiment
from stockpred.train.learner import Batch, Metrics, Networks

TASKS = ("direction",)
MODEL = "inputs_BTF -> forecast_B"


class Logistic:
    """One network, ``model``: inputs_BTF -> log odds [B]."""

    selection_metric = "cross_entropy"

    def __init__(self, model: nn.Module) -> None:
        self.networks: dict[str, nn.Module] = {"model": model}

    def updates(self, batch: Batch, networks: Networks) -> Iterator[tuple[str, Tensor]]:
        yield "model", summed_loss(networks["model"], batch) / batch["loss_weight"]

    def evaluate(self, batch: Batch, networks: Networks) -> Metrics:
        num_samples = torch.tensor(float(len(batch["is_up"])))
        return {"cross_entropy": (summed_loss(networks["model"], batch), num_samples)}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state


def summed_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the sum over samples of -log p(direction), in nats."""
    return functional.binary_cross_entropy_with_logits(
        model(batch["inputs"]), batch["is_up"], reduction="sum"
    )


def build(experiment: Experiment, model: nn.Module) -> Logistic:
    """Return the learner of a new model."""
    return Logistic(model)
