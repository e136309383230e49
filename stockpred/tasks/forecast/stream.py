"""Batches of one asset's samples that depend on (seed, step) alone, however many ranks share them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from stockpred.data.arrays import Ints
from stockpred.data.epochs import ShuffledEpochs
from stockpred.data.splits import USED, Split
from stockpred.tasks.forecast.dataset import AssetSeries

Batch = dict[str, torch.Tensor]


class SeriesStream:
    """Training samples in a new order each epoch, and those of the scoring splits once each.

    A batch holds ``inputs`` [B, context_length, F] and, in model units, ``target`` [B] and ``persistence``
    [B], the forecast that the price stays; all float32.
    """

    def __init__(self, series: AssetSeries, *, context_length: int, seed: int) -> None:
        self.series = series
        self.samples = {split: series.samples(split) for split in USED}
        self._context_length = context_length
        self._epochs = ShuffledEpochs(self.num_samples, seed)

    @property
    def num_samples(self) -> int:
        """Training samples in one epoch."""
        return len(self.samples[Split.TRAIN])

    def batch(self, step: int, part: int, num_parts: int, part_size: int) -> Batch:
        """Return part ``part`` of the global batch of ``step``, which has num_parts * part_size samples.

        The mean over parts of (sum of a part's losses / ``loss_weight``) is the mean loss of the batch.
        """
        size = num_parts * part_size
        joint = self._epochs.samples(step * size, size)
        own = self.samples[Split.TRAIN][joint[part * part_size : (part + 1) * part_size]]
        return self._gather(own, Split.TRAIN) | {"loss_weight": torch.tensor(float(part_size))}

    def evaluation(self, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        """Yield this part's share of the validation samples; over all parts each comes exactly once."""
        return self.scored(Split.VALIDATION, part, num_parts, batch_size)

    def scored(self, split: Split, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        """Yield this part's samples of ``split``, oldest first."""
        own = self.samples[split][part::num_parts]
        for start in range(0, len(own), batch_size):
            yield self._gather(own[start : start + batch_size], split)

    def _gather(self, samples: Ints, split: Split) -> Batch:
        inputs = self.series.inputs(samples, split, self._context_length)
        return {
            "inputs": torch.from_numpy(inputs),
            "target": torch.from_numpy(self.series.targets(samples).astype(np.float32)),
            "persistence": torch.from_numpy(self.series.persistence(samples).astype(np.float32)),
        }
