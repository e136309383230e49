"""Forecast the next close of one asset, and score it beside the last value, drift and always-up.

Axes: B samples, M scored samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hpc.run.paths import RunPaths
from stockpred.config import registry
from stockpred.config.forecast import ForecastExperiment
from stockpred.config.registry import LEARNERS, MODELS
from stockpred.data.arrays import Floats
from stockpred.data.prepared import read_bars
from stockpred.data.splits import Split
from stockpred.report.format import parameter_count, percent, percent_interval, plain
from stockpred.score import files
from stockpred.score.field import Field
from stockpred.score.history import History
from stockpred.score.metrics import EvaluatedModel
from stockpred.score.results import ForecasterScores
from stockpred.score.rival import Kind
from stockpred.tasks.forecast import evaluate
from stockpred.tasks.forecast.dataset import AssetSeries, features_of, load, only_asset
from stockpred.tasks.forecast.stream import SeriesStream
from stockpred.train.cadence import random_key
from stockpred.train.checkpoint import CheckLease
from stockpred.train.learner import Batch, num_parameters, to_device


class TaskLearner(Protocol):
    """What scoring asks of a learner, beyond ``Learner``; a check reads the methods from this text."""

    networks: dict[str, nn.Module]

    def forecast(self, batch: Batch) -> Tensor:
        """Return forecast_B in model units: no dropout, no gradient."""
        ...


def prepare(
    experiment: ForecastExperiment, paths: RunPaths, *, check_lease: Callable[[], None] = lambda: None
) -> None:
    """Make the run's bars ready as a series; on rank 0."""
    from stockpred.tasks.forecast.prepare import prepare as write  # pandas: only rank 0 pays for it

    write(experiment, paths, check_lease=check_lease)


def build(experiment: ForecastExperiment, num_features: int) -> TaskLearner:
    """Return the learner with a new model; its weights depend on ``training.seed`` alone."""
    torch.manual_seed(random_key(experiment.training.seed, "weights"))
    learner: TaskLearner = registry.load(LEARNERS, experiment.learner.name, where="learner.name").build(
        experiment, _new_model(experiment, num_features)
    )
    return learner


def count_parameters(experiment: ForecastExperiment) -> int:
    """Return how big the model of an experiment is; reads its universe."""
    _, asset = only_asset(experiment)
    with torch.device("meta"):
        return num_parameters(_new_model(experiment, len(features_of(experiment, asset))))


def _new_model(experiment: ForecastExperiment, num_features: int) -> nn.Module:
    architecture = registry.load(MODELS, experiment.model.name, where="model.name")
    model: nn.Module = architecture.build(experiment.model, num_features=num_features)
    return model


class ForecastTask:
    """One asset's samples for the core, and a test beside persistence, drift and always-up."""

    def __init__(self, experiment: ForecastExperiment, paths: RunPaths) -> None:
        self.experiment, self.paths = experiment, paths
        self.series: AssetSeries = load(paths)
        self.stream = SeriesStream(
            self.series, context_length=experiment.model.context_length, seed=experiment.training.seed
        )
        self.learner = build(experiment, len(self.series.features))

    @property
    def num_parameters(self) -> int:
        return num_parameters(self.learner.networks["model"])

    def describe(self) -> str:
        return (
            f"{self.experiment.model.name} with {parameter_count(self.num_parameters)} parameters "
            f"for {self.series.symbol}; {self.stream.num_samples} training samples, "
            f"{len(self.stream.samples[Split.VALIDATION])} validation targets"
        )

    def score(
        self, split: Split, best_step: int, device: torch.device, check_lease: CheckLease
    ) -> Iterator[str]:
        samples = self.stream.samples[split]
        scores, table = evaluate.score(
            self.series,
            samples,
            self.series.prices(samples, self.forecasts(split, device)),
            split=split,
            evaluated=EvaluatedModel(self.experiment.model.name, self.num_parameters, best_step),
            field=self._field,
        )
        files.write(self.paths, self.experiment.task.name, scores, table, check_lease)
        group = scores.pooled
        yield from (_line(split, row) for row in (group.model, *group.rivals) if row.skill is not None)

    def forecasts(self, split: Split, device: torch.device) -> Floats:
        """Return the model's forecast [M] of every target of ``split`` in model units, oldest first."""
        batches = self.stream.scored(split, 0, 1, self.experiment.training.batch_size)
        found = [self.learner.forecast(to_device(batch, device)).cpu().numpy() for batch in batches]
        return np.concatenate(found).astype(np.float64)

    @cached_property
    def _field(self) -> Field:
        """The rivals that name a price, fitted once for all splits."""
        checked, split = read_bars(self.paths.prepared)
        category = np.zeros(len(split), np.int64)  # of one asset
        return Field(History.of(checked, split, category), (Kind.POINT,))


def task(experiment: ForecastExperiment, paths: RunPaths) -> ForecastTask:
    """Return the task on a run's prepared bars."""
    return ForecastTask(experiment, paths)


def _line(split: Split, row: ForecasterScores) -> str:
    interval = f" ({percent_interval(row.skill_interval)})" if row.skill_interval else ""
    return plain(f"{split.text} {row.label:<20} skill {percent(row.skill, 2)} %{interval}")
