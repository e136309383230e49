"""Predict the next token of a sequence: cross-entropy over the tokens that count.

Axes: B samples, T positions, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

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

TASKS = ("next_token",)
MODEL = "tokens_BT, asset_B, category_B -> logits_BTV"
NETWORKS = ("model",)
METRICS: Mapping[str, Direction] = {"cross_entropy": "min", "accuracy": "max"}

IGNORED = -100


class LanguageModel(Learner):
    """One network, ``model``: (tokens_BT, asset_B, category_B) -> logits_BTV."""

    metrics = METRICS

    def __init__(self, model: nn.Module) -> None:
        self.networks: dict[str, nn.Module] = {"model": model}

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        logits_BTV = predict(networks.synced("model"), batch)
        yield "model", summed_cross_entropy(logits_BTV, batch) / batch["loss_weight"]

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        """Return the summed cross-entropy in nats and the number of hits, each with the number of tokens."""
        logits_BTV = predict(networks.local("model"), batch)
        count = batch["mask"].sum()
        is_hit_BT = (logits_BTV.argmax(-1) == batch["targets"]) & batch["mask"]
        return Evaluation(
            {
                "cross_entropy": (summed_cross_entropy(logits_BTV, batch), count),
                "accuracy": (is_hit_BT.sum(), count),
            }
        )

    def predict_log_probs(self, batch: Batch) -> Tensor:
        """Return log_probs_BTV of the token after each position: float32, no dropout, no gradient."""
        model = self.networks["model"]
        with torch.no_grad(), evaluation_mode(model):
            return predict(model, batch).float().log_softmax(-1)


def build(experiment: Experiment, model: nn.Module) -> LanguageModel:
    """Return the learner of a new model."""
    return LanguageModel(model)


def predict(model: nn.Module, batch: Batch) -> Tensor:
    logits_BTV: Tensor = model(batch["tokens"], batch["asset"], batch["category"])
    return logits_BTV


def summed_cross_entropy(logits_BTV: Tensor, batch: Batch) -> Tensor:
    """Return the sum over unmasked targets of -log p(target), in nats."""
    targets_BT = batch["targets"].masked_fill(~batch["mask"], IGNORED)
    return functional.cross_entropy(
        logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=IGNORED, reduction="sum"
    )
