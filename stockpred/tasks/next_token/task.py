"""Predict the next bar as a token: windows of tokens, a language model, scored beside simple rivals.

Axes: B samples, T positions, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
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
from stockpred.report.format import parameter_count, percent, plain, signed
from stockpred.score import files
from stockpred.score.metrics import EvaluatedModel
from stockpred.score.results import ForecasterScores
from stockpred.tasks.next_token import evaluate
from stockpred.tasks.next_token.dataset import TokenDataset, load
from stockpred.tasks.next_token.evaluate import Rivals
from stockpred.tasks.next_token.stream import WindowStream
from stockpred.tasks.next_token.tokenizer import FEATURES
from stockpred.tasks.next_token.windows import scoring_stride
from stockpred.train.cadence import random_key
from stockpred.train.checkpoint import CheckLease
from stockpred.train.learner import Batch, num_parameters, to_device


class TaskLearner(Protocol):
    """What scoring asks of a learner, beyond ``Learner``; a check reads the methods from this text."""

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
    """Windows of tokens for the core, scored beside rivals of tokens and of returns."""

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

    def score(
        self, split: Split, best_step: int, device: torch.device, check_lease: CheckLease
    ) -> Iterator[str]:
        experiment = self.experiment
        own = evaluate.score_model(
            self.dataset,
            lambda batch: self.learner.predict_log_probs(to_device(batch, device)),
            split=split,
            context_length=experiment.model.context_length,
            stride=scoring_stride(experiment.model.context_length, experiment.data.score_stride),
            batch_size=experiment.training.batch_size,
        )
        evaluated = EvaluatedModel(experiment.model.name, self.num_parameters, best_step)
        scores, table = evaluate.score(
            self.dataset, own, split=split, evaluated=evaluated, rivals=self._rivals
        )
        files.write(self.paths, experiment.task.name, scores, table, check_lease)
        yield from (_line(split, row) for row in (scores.pooled.model, *scores.pooled.rivals))

    @cached_property
    def _rivals(self) -> Rivals:
        """The rivals of tokens and of returns, fitted once for all splits."""
        return Rivals.fit(self.dataset, evaluate.history(self.dataset, self.paths.prepared))


def task(experiment: NextTokenExperiment, paths: RunPaths) -> NextTokenTask:
    """Return the task on a run's prepared bars."""
    return NextTokenTask(experiment, paths)


def _line(split: Split, row: ForecasterScores) -> str:
    """Return one forecaster's scores on all seen assets, those that it has."""
    parts = (
        None if row.nats is None else f"{row.nats:.4f} nats",
        None if row.crps_bp is None else f"CRPS {row.crps_bp:.1f} bp",
        None if row.log_loss is None else f"log loss {row.log_loss:.4f}",
        None if row.rank_ic is None else f"RankIC {signed(row.rank_ic.mean, 4)}",
        None if row.direction is None else f"direction {percent(row.direction.share)} %",
    )
    return plain("  ".join((split.text, f"{row.label:<37}", *filter(None, parts))))
