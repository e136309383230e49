"""Predict the next bar as a token: windows of tokens, a language model, a test beside simple rivals.

Axes: B samples, T positions, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from hpc.run.paths import RunPaths
from stockpred.config import registry
from stockpred.config.next_token import NextTokenExperiment
from stockpred.config.registry import LEARNERS, MODELS
from stockpred.data import universe
from stockpred.data.splits import Split
from stockpred.report.format import parameter_count
from stockpred.score.metrics import EvaluatedModel
from stockpred.tasks.next_token.dataset import TokenDataset, load
from stockpred.tasks.next_token.evaluate import evaluate_test
from stockpred.tasks.next_token.stream import WindowStream
from stockpred.tasks.next_token.tokenizer import FEATURES
from stockpred.tasks.next_token.windows import scoring_stride
from stockpred.train.cadence import random_key
from stockpred.train.learner import Batch, num_parameters, to_device


class TaskLearner(Protocol):
    """What the test asks of a learner, beyond ``Learner``; a check reads the methods from this text."""

    networks: dict[str, nn.Module]

    def predict_log_probs(self, batch: Batch) -> Tensor:
        """Return log_probs_BTV of the token after each position: float32, no dropout, no gradient."""
        ...


def prepare(
    experiment: NextTokenExperiment, paths: RunPaths, *, check_lease: Callable[[], None] = lambda: None
) -> None:
    """Make the run's bars ready as tokens; on rank 0."""
    from stockpred.tasks.next_token.prepare import prepare as write  # pandas: only rank 0 pays for it

    write(experiment, paths, check_lease=check_lease)


def build(experiment: NextTokenExperiment, bars: TokenDataset) -> TaskLearner:
    """Return the learner with a new model; its weights depend on ``training.seed`` alone."""
    torch.manual_seed(random_key(experiment.training.seed, "weights"))
    model = registry.load(MODELS, experiment.model.name, where="model.name").build(
        experiment.model,
        centroids=torch.as_tensor(bars.tokenizer.centroids),
        log_prior=torch.as_tensor(bars.tokenizer.log_unigram),
        num_assets=len(bars.assets),
        num_categories=len(bars.categories),
    )
    learner: TaskLearner = registry.load(LEARNERS, experiment.learner.name, where="learner.name").build(
        experiment, model
    )
    return learner


def count_parameters(experiment: NextTokenExperiment) -> int:
    """Return how big the model of an experiment is; reads its universe."""
    assets = universe.read(Path(experiment.data.universe)).restricted_to(experiment.data.symbol)
    sizes = (experiment.tokenizer.vocab_size, len(FEATURES), len(assets.assets), len(assets.categories))
    architecture = registry.load(MODELS, experiment.model.name, where="model.name")
    return int(architecture.count_parameters(experiment.model, *sizes))


class NextTokenTask:
    """Windows of tokens for the core, and a test beside unigram, bigram and their like."""

    def __init__(self, experiment: NextTokenExperiment, paths: RunPaths) -> None:
        self.experiment, self.paths = experiment, paths
        self.dataset = load(paths)
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
            f"{self.experiment.model.name} with {parameter_count(self.num_parameters)} parameters; "
            f"{self.stream.num_samples} training windows, "
            f"{self.stream.num_scored(Split.VALIDATION)} validation bars"
        )

    def test(self, best_step: int, device: torch.device, check_lease: Callable[[], None]) -> Iterator[str]:
        experiment = self.experiment
        found = evaluate_test(
            self.dataset,
            lambda batch: self.learner.predict_log_probs(to_device(batch, device)),
            paths=self.paths,
            evaluated=EvaluatedModel(experiment.model.name, self.num_parameters, best_step),
            context_length=experiment.model.context_length,
            stride=scoring_stride(experiment.model.context_length, experiment.data.score_stride),
            batch_size=experiment.training.batch_size,
            check_lease=check_lease,
        )
        for scores in (found.model, *found.rivals):
            if scores.nats is not None:
                yield f"test {scores.label:<12} {scores.nats:.4f} nats per bar"


def task(experiment: NextTokenExperiment, paths: RunPaths) -> NextTokenTask:
    """Return the task on a run's prepared bars."""
    return NextTokenTask(experiment, paths)
