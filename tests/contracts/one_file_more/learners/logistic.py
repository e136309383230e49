"""Learn a direction by logistic loss: the model's number is the log odds that the next close is higher.

Axes: B samples, T bars, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from stockpred.config.base import Experiment
from stockpred.train.learner import Batch, Direction, Evaluation, Learner, Networks, Update

TASKS = ("direction",)
MODEL = "inputs_BTF -> forecast_B"
NETWORKS = ("model",)
METRICS: Mapping[str, Direction] = {"cross_entropy": "min"}


class Logistic(Learner):
    """One network, ``model``: inputs_BTF -> log odds [B]."""

    metrics = METRICS

    def __init__(self, model: nn.Module) -> None:
        self.networks: dict[str, nn.Module] = {"model": model}

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        yield "model", summed_loss(networks.synced("model"), batch) / batch["loss_weight"]

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        num_samples = torch.tensor(float(len(batch["is_up"])))
        return Evaluation({"cross_entropy": (summed_loss(networks.local("model"), batch), num_samples)})


def summed_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the sum over samples of -log p(direction), in nats."""
    return functional.binary_cross_entropy_with_logits(
        model(batch["inputs"]), batch["is_up"], reduction="sum"
    )


def build(experiment: Experiment, model: nn.Module) -> Logistic:
    """Return the learner of a new model."""
    return Logistic(model)
