"""Forecast the next close of one asset, and test it beside persistence, drift and always-up.

Axes: B samples, M test samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hpc.run.paths import RunPaths
from stockpred.config import registry
from stockpred.config.forecast import ForecastExperiment
from stockpred.config.registry import LEARNERS, MODELS
from stockpred.data.splits import Split
from stockpred.report.format import parameter_count, percent, percent_interval, plain, significant
from stockpred.score.metrics import EvaluatedModel
from stockpred.tasks.forecast.dataset import AssetSeries, features_of, load, only_asset
from stockpred.tasks.forecast.evaluate import Forecasts, evaluate_test
from stockpred.tasks.forecast.results import ForecastScores
from stockpred.tasks.forecast.stream import SeriesStream
from stockpred.train.cadence import random_key
from stockpred.train.learner import Batch, num_parameters, to_device


class TaskLearner(Protocol):
    """What the test asks of a learner, beyond ``Learner``; a check reads the methods from this text."""

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

    def test(self, best_step: int, device: torch.device, check_lease: Callable[[], None]) -> Iterator[str]:
        found = evaluate_test(
            self.forecasts(Split.TEST, device),
            drift=float(self.series.returns(self.stream.samples[Split.TRAIN]).mean()),
            paths=self.paths,
            evaluated=EvaluatedModel(self.experiment.model.name, self.num_parameters, best_step),
            check_lease=check_lease,
        )
        yield from (_line(row) for row in (found.model, *found.rivals) if row.mse_price is not None)

    def forecasts(self, split: Split, device: torch.device) -> Forecasts:
        """Return the model's forecast of every target of ``split``, oldest first."""
        batches = self.stream.scored(split, 0, 1, self.experiment.training.batch_size)
        found = [self.learner.forecast(to_device(batch, device)).cpu().numpy() for batch in batches]
        series, samples = self.series, self.stream.samples[split]
        return Forecasts(
            symbol=series.symbol,
            category=series.category,
            time=np.asarray(series.time[samples + 1]),
            previous_close=np.asarray(series.close[samples]),
            close=np.asarray(series.close[samples + 1]),
            forecast=series.prices(samples, np.concatenate(found).astype(np.float64)),
        )


def task(experiment: ForecastExperiment, paths: RunPaths) -> ForecastTask:
    """Return the task on a run's prepared bars."""
    return ForecastTask(experiment, paths)


def _line(row: ForecastScores) -> str:
    error = f"test {row.label:<12} MSE {significant(row.mse_price)}"
    if row.skill is None or row.skill_interval is None:
        return plain(error)
    return plain(f"{error}, skill {percent(row.skill, 2)} % ({percent_interval(row.skill_interval)})")
