"""Learn to forecast the next close of one asset: squared error in model units.

Axes: B samples, M test samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpc.errors import UserError
from hpc.paths import RunPaths
from stockpred import discover
from stockpred.data import series as series_bars
from stockpred.data.series import Series, features_of, only_asset
from stockpred.data.series_stream import SeriesStream
from stockpred.evaluate.regression import Forecasts, evaluate_test
from stockpred.experiments.regression import RegressionExperiment
from stockpred.results.evaluated import Evaluated
from stockpred.results.regression import Scores
from stockpred.train.cadence import random_key
from stockpred.train.core import to_device
from stockpred.train.learner import Batch, Metrics, Networks, num_parameters

SMALLEST_VARIATION = 1e-12


class Regression:
    """One network, ``model``: inputs_BTF -> forecast_B."""

    selection_metric = "mse"

    def __init__(self, model: nn.Module) -> None:
        self.networks: dict[str, nn.Module] = {"model": model}

    def updates(self, batch: Batch, networks: Networks) -> Iterator[tuple[str, Tensor]]:
        error_B = predict(networks["model"], batch) - batch["target"]
        yield "model", error_B.square().sum() / batch["loss_weight"]

    def evaluate(self, batch: Batch, networks: Networks) -> Metrics:
        """Return the squared error in model units, and ``skill``: by which share persistence's is larger."""
        target_B = batch["target"]
        squared = (predict(networks["model"], batch) - target_B).square().sum()
        of_persistence = (batch["persistence"] - target_B).square().sum()
        return {
            "mse": (squared, torch.full_like(squared, len(target_B))),
            "skill": (of_persistence - squared, of_persistence.clamp_min(SMALLEST_VARIATION)),
        }

    def forecast(self, batch: Batch) -> Tensor:
        """Return forecast_B in model units: no dropout, no gradient."""
        model = self.networks["model"]
        was_training = model.training
        model.eval()
        with torch.no_grad():
            forecast_B = predict(model, batch)
        model.train(was_training)
        return forecast_B

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state


def predict(model: nn.Module, batch: Batch) -> Tensor:
    """Return forecast_B in model units; raise UserError for a model that gives another shape.

    A forecast of (B, 1) against targets of (B,) would spread to (B, B) without a word.
    """
    forecast_B: Tensor = model(batch["inputs"]).float()
    if forecast_B.shape != batch["inputs"].shape[:1]:
        raise UserError(
            f"the model returns {tuple(forecast_B.shape)} for inputs {tuple(batch['inputs'].shape)}",
            where="model.name",
            fix="return one forecast for each sample: (B,), as with squeeze(-1)",
        )
    return forecast_B


def prepare(
    experiment: RegressionExperiment, paths: RunPaths, *, guard: Callable[[], None] = lambda: None
) -> None:
    """Make the run's bars ready as a series; on rank 0."""
    series_bars.prepare(experiment, paths, guard=guard)


def build(experiment: RegressionExperiment, num_features: int) -> Regression:
    """Return the learner with a new model; its weights depend on ``training.seed`` alone."""
    torch.manual_seed(random_key(experiment.training.seed, "weights"))
    return Regression(_architecture(experiment).build(experiment.model, num_features=num_features))


def count_parameters(experiment: RegressionExperiment) -> int:
    """Return how big the model of an experiment is; reads its universe."""
    _, asset = only_asset(experiment)
    with torch.device("meta"):
        model = _architecture(experiment).build(
            experiment.model, num_features=len(features_of(experiment, asset))
        )
    return num_parameters(model)


class RegressionTask:
    """One asset's samples for the core, and a test beside persistence, drift and always-up."""

    def __init__(self, experiment: RegressionExperiment, paths: RunPaths) -> None:
        self.experiment, self.paths = experiment, paths
        self.series: Series = series_bars.load(paths)
        self.stream = SeriesStream(
            self.series, context_length=experiment.model.context_length, seed=experiment.training.seed
        )
        self.learner = build(experiment, len(self.series.features))

    @property
    def num_parameters(self) -> int:
        return num_parameters(self.learner.networks["model"])

    def describe(self) -> str:
        return (
            f"{self.experiment.model.name} with {_rounded(self.num_parameters)} parameters "
            f"for {self.series.symbol}; {self.stream.num_samples} training samples, "
            f"{len(self.stream.samples['validation'])} validation targets"
        )

    def test(self, best_step: int, device: torch.device, guard: Callable[[], None]) -> Iterator[str]:
        found = evaluate_test(
            self.forecasts("test", device),
            drift=float(self.series.returns(self.stream.samples["train"]).mean()),
            paths=self.paths,
            evaluated=Evaluated(self.experiment.model.name, self.num_parameters, best_step),
            guard=guard,
        )
        yield from (_line(row) for row in (found.model, *found.rivals) if row.mse_price is not None)

    def forecasts(self, split: str, device: torch.device) -> Forecasts:
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


def task(experiment: RegressionExperiment, paths: RunPaths) -> RegressionTask:
    """Return the task on a run's prepared bars."""
    return RegressionTask(experiment, paths)


def _rounded(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1e3:.1f}k"


def _line(row: Scores) -> str:
    told = f"test {row.label:<12} MSE {row.mse_price:.4g}"
    if row.skill is None or row.skill_interval is None:
        return told
    low, high = row.skill_interval.low, row.skill_interval.high
    return f"{told}, skill {100 * row.skill:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def _architecture(experiment: RegressionExperiment) -> ModuleType:
    return discover.load("stockpred.models.regression", experiment.model.name, where="model.name")
