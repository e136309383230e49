"""Tell whether an asset's next close is higher: the smallest task that is whole.

Axes: B samples, T context_length, F features; N bars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from hpc.base import records
from hpc.run.paths import RunPaths
from stockpred.config import registry
from stockpred.config.base import Experiment
from stockpred.config.registry import LEARNERS, MODELS
from stockpred.data import describe, store, universe
from stockpred.data.arrays import Floats, Ints
from stockpred.data.epochs import ShuffledEpochs
from stockpred.data.load import load_checked_bars
from stockpred.data.prepared import Contents, PreparedFiles, SettingsDigest
from stockpred.data.splits import USED, Split
from stockpred.train.cadence import random_key
from stockpred.train.learner import Batch, Learner, num_parameters, to_device

ARRAYS = ("close_return", "split")


def prepare(
    experiment: Experiment, paths: RunPaths, *, check_lease: Callable[[], None] = lambda: None
) -> None:
    """Write the asset's returns, once."""
    settings = SettingsDigest.of(experiment.data)

    def contents() -> Contents:
        assets = universe.read(Path(experiment.data.universe)).restricted_to(experiment.data.symbol)
        bars = load_checked_bars(experiment.data, assets)
        arrays = {"close_return": bars.checked.columns.close_return[1:], "split": bars.split[1:]}
        return Contents(bars, {}, describe.data(experiment.data, bars), arrays)

    PreparedFiles(paths, (), settings, ARRAYS).ensure(contents, check_lease)


def count_parameters(experiment: Experiment) -> int:
    """Return how big the model of an experiment is."""
    with torch.device("meta"):
        architecture = registry.load(MODELS, experiment.model.name, where="model.name")
        return num_parameters(architecture.build(experiment.model, num_features=1))


class ReturnStream:
    """Windows of returns: ``inputs`` [B, T, 1] in percent, ``is_up`` [B]."""

    def __init__(self, paths: RunPaths, context_length: int, seed: int) -> None:
        store.read_json_files(paths.prepared, paths.data_info)
        arrays = store.map_arrays(paths.prepared, ARRAYS)
        self.returns: Floats = np.asarray(arrays["close_return"])
        self.offset = np.arange(-context_length, 0)
        self.samples = {split: np.flatnonzero(arrays["split"] == split) for split in USED}
        self.samples[Split.TRAIN] = self.samples[Split.TRAIN][context_length:]
        self.epochs = ShuffledEpochs(self.num_samples, seed)

    @property
    def num_samples(self) -> int:
        return len(self.samples[Split.TRAIN])

    def batch(self, step: int, part: int, num_parts: int, part_size: int) -> Batch:
        size = num_parts * part_size
        joint = self.samples[Split.TRAIN][self.epochs.samples(step * size, size)]
        own = joint[part * part_size : (part + 1) * part_size]
        return self.gather(own) | {"loss_weight": torch.tensor(float(part_size))}

    def evaluation(self, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        own = self.samples[Split.VALIDATION][part::num_parts]
        for start in range(0, len(own), batch_size):
            yield self.gather(own[start : start + batch_size])

    def gather(self, samples: Ints) -> Batch:
        inputs = 100.0 * self.returns[samples[:, None] + self.offset, None]
        return {
            "inputs": torch.from_numpy(inputs.astype(np.float32)),
            "is_up": torch.from_numpy((self.returns[samples] > 0).astype(np.float32)),
        }


class DirectionTask:
    """Returns for the core, and a test that counts the days whose direction was right."""

    def __init__(self, experiment: Experiment, paths: RunPaths) -> None:
        self.experiment, self.paths = experiment, paths
        self.stream = ReturnStream(paths, experiment.model.context_length, experiment.training.seed)
        torch.manual_seed(random_key(experiment.training.seed, "weights"))
        model = registry.load(MODELS, experiment.model.name).build(experiment.model, num_features=1)
        self.learner: Learner = registry.load(LEARNERS, experiment.learner.name).build(experiment, model)

    def describe(self) -> str:
        return f"{self.experiment.model.name} on {self.stream.num_samples} days"

    def score(
        self, split: Split, best_step: int, device: torch.device, check_lease: Callable[[], None]
    ) -> Iterator[str]:
        batch = to_device(self.stream.gather(self.stream.samples[split]), device)
        with torch.no_grad():
            score_B = self.learner.networks["model"].eval()(batch["inputs"])
        share = ((score_B > 0) == (batch["is_up"] > 0)).float().mean().item()
        check_lease()
        results = self.paths.test_results if split is Split.TEST else self.paths.validation_results
        records.write_json(results, {"best_step": best_step, "share_right": share})
        yield f"{split.text}: {100 * share:.1f} % of {len(score_B)} days right"


def task(experiment: Experiment, paths: RunPaths) -> DirectionTask:
    """Return the task on a run's prepared bars."""
    return DirectionTask(experiment, paths)
