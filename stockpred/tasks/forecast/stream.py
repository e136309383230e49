"""Batches of one asset's samples that depend on (seed, step) alone, however many ranks share them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from stockpred.data.arrays import Ints
from stockpred.data.epochs import ShuffledEpochs
from stockpred.tasks.forecast.dataset import AssetSeries

Batch = dict[str, torch.Tensor]


class SeriesStream:
    """Training samples in a new order each epoch, and those of the scoring splits once each.

    A batch holds ``inputs`` [B, context_length, F] and, in model units, ``target`` [B] and ``persistence``
    [B], the forecast that the price stays; all float32.
    """

    def __init__(self, series: AssetSeries, *, context_length: int, seed: int) -> None:
        self.series = series
        self.samples = {split: series.samples(split, context_length) for split in series.splits}
        self._offset = np.arange(1 - context_length, 1)
        self._inputs_NF = np.asarray(series.inputs_NF)
        self._epochs = ShuffledEpochs(self.num_samples, seed)

    @property
    def num_samples(self) -> int:
        """Training samples in one epoch."""
        return len(self.samples["train"])

    def batch(self, step: int, part: int, num_parts: int, part_size: int) -> Batch:
        """Return part ``part`` of the global batch of ``step``, which has num_parts * part_size samples.

        The mean over parts of (sum of a part's losses / ``loss_weight``) is the mean loss of the batch.
        """
        size = num_parts * part_size
        joint = self._epochs.samples(step * size, size)
        own = self.samples["train"][joint[part * part_size : (part + 1) * part_size]]
        return self._gather(own) | {"loss_weight": torch.tensor(float(part_size))}

    def evaluation(self, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        """Yield this part's share of the validation samples; over all parts each comes exactly once."""
        return self.scored("validation", part, num_parts, batch_size)

    def scored(self, split: str, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        """Yield this part's samples of ``split``, oldest first."""
        own = self.samples[split][part::num_parts]
        for start in range(0, len(own), batch_size):
            yield self._gather(own[start : start + batch_size])

    def _gather(self, samples: Ints) -> Batch:
        return {
            "inputs": torch.from_numpy(self._inputs_NF[samples[:, None] + self._offset]),
            "target": torch.from_numpy(self.series.targets(samples).astype(np.float32)),
            "persistence": torch.from_numpy(self.series.persistence(samples).astype(np.float32)),
        }
