"""Learn to predict the next bar's token: cross-entropy over the bars that count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpc.paths import RunPaths
from stockpred import discover
from stockpred.data import dataset, universe
from stockpred.data.dataset import Dataset
from stockpred.data.stream import WindowStream
from stockpred.data.windows import scoring_stride
from stockpred.evaluate.next_bar import evaluate_test
from stockpred.experiments.next_bar import NextBarExperiment
from stockpred.results.evaluated import Evaluated
from stockpred.train.cadence import random_key
from stockpred.train.core import to_device
from stockpred.train.learner import Batch, Metrics, Networks, num_parameters

IGNORED = -100


class NextBar:
    """One network, ``model``: (tokens_BT, asset_B, category_B) -> logits_BTV."""

    selection_metric = "cross_entropy"

    def __init__(self, model: nn.Module) -> None:
        self.networks: dict[str, nn.Module] = {"model": model}

    def updates(self, batch: Batch, networks: Networks) -> Iterator[tuple[str, Tensor]]:
        logits_BTV = predict(networks["model"], batch)
        yield "model", summed_cross_entropy(logits_BTV, batch) / batch["loss_weight"]

    def evaluate(self, batch: Batch, networks: Networks) -> Metrics:
        """Return the summed cross-entropy in nats and the number of hits, each with the number of bars."""
        logits_BTV = predict(networks["model"], batch)
        count = batch["mask"].sum()
        is_hit_BT = (logits_BTV.argmax(-1) == batch["targets"]) & batch["mask"]
        return {
            "cross_entropy": (summed_cross_entropy(logits_BTV, batch), count),
            "accuracy": (is_hit_BT.sum(), count),
        }

    def predict_log_probs(self, batch: Batch) -> Tensor:
        """Return log_probs_BTV of the token after each bar: float32, no dropout, no gradient."""
        model = self.networks["model"]
        was_training = model.training
        model.eval()
        with torch.no_grad():
            log_probs_BTV = predict(model, batch).float().log_softmax(-1)
        model.train(was_training)
        return log_probs_BTV

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state


def prepare(
    experiment: NextBarExperiment, paths: RunPaths, *, guard: Callable[[], None] = lambda: None
) -> None:
    """Make the run's bars ready as tokens; on rank 0."""
    dataset.prepare(experiment, paths, guard=guard)


def build(experiment: NextBarExperiment, bars: Dataset) -> NextBar:
    """Return the learner with a new model; its weights depend on ``training.seed`` alone."""
    torch.manual_seed(random_key(experiment.training.seed, "weights"))
    return NextBar(
        _architecture(experiment).build(
            experiment.model,
            centroids=torch.as_tensor(bars.tokenizer.centroids),
            log_prior=torch.as_tensor(bars.tokenizer.log_unigram),
            num_assets=len(bars.assets),
            num_categories=len(bars.categories),
        )
    )


def count_parameters(experiment: NextBarExperiment) -> int:
    """Return how big the model of an experiment is; reads its universe."""
    assets = universe.read(Path(experiment.data.universe)).restricted_to(experiment.data.symbol)
    sizes = (experiment.tokenizer.vocab_size, len(assets.assets), len(assets.categories))
    return int(_architecture(experiment).count_parameters(experiment.model, *sizes))


class NextBarTask:
    """Windows of tokens for the core, and a test beside unigram, bigram and their like."""

    def __init__(self, experiment: NextBarExperiment, paths: RunPaths) -> None:
        self.experiment, self.paths = experiment, paths
        self.dataset = dataset.load(paths)
        self.stream = WindowStream(
            self.dataset,
            context_length=experiment.model.context_length,
            stride=experiment.data.stride,
            seed=experiment.training.seed,
            score_stride=experiment.data.score_stride,
        )
        self.learner = build(experiment, self.dataset)

    @property
    def num_parameters(self) -> int:
        return num_parameters(self.learner.networks["model"])

    def describe(self) -> str:
        return (
            f"{self.experiment.model.name} with {self.num_parameters / 1e6:.2f}M parameters; "
            f"{self.stream.num_samples} training windows, "
            f"{self.stream.num_scored('validation')} validation bars"
        )

    def test(self, best_step: int, device: torch.device, guard: Callable[[], None]) -> Iterator[str]:
        experiment = self.experiment
        found = evaluate_test(
            self.dataset,
            lambda batch: self.learner.predict_log_probs(to_device(batch, device)),
            paths=self.paths,
            evaluated=Evaluated(experiment.model.name, self.num_parameters, best_step),
            context_length=experiment.model.context_length,
            stride=scoring_stride(experiment.model.context_length, experiment.data.score_stride),
            batch_size=experiment.training.batch_size,
            guard=guard,
        )
        for scores in (found.model, *found.rivals):
            if scores.nats is not None:
                yield f"test {scores.label:<12} {scores.nats:.4f} nats per bar"


def task(experiment: NextBarExperiment, paths: RunPaths) -> NextBarTask:
    """Return the task on a run's prepared bars."""
    return NextBarTask(experiment, paths)


def _architecture(experiment: NextBarExperiment) -> ModuleType:
    return discover.load("stockpred.models.next_bar", experiment.model.name, where="model.name")


def predict(model: nn.Module, batch: Batch) -> Tensor:
    logits_BTV: Tensor = model(batch["tokens"], batch["asset"], batch["category"])
    return logits_BTV


def summed_cross_entropy(logits_BTV: Tensor, batch: Batch) -> Tensor:
    """Return the sum over unmasked targets of -log p(target), in nats."""
    targets_BT = batch["targets"].masked_fill(~batch["mask"], IGNORED)
    return functional.cross_entropy(
        logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=IGNORED, reduction="sum"
    )
