"""Batches that depend on (seed, step) alone: not on how many ranks share them, nor on where a run resumed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from stockpred.data.arrays import Ints
from stockpred.data.epochs import ShuffledEpochs
from stockpred.data.splits import Split
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.windows import Windows, scoring_stride

Batch = dict[str, torch.Tensor]


class WindowStream:
    """Training windows in a new order each epoch, and the windows of the scoring splits once each."""

    def __init__(
        self,
        dataset: TokenDataset,
        *,
        context_length: int,
        stride: int,
        seed: int,
        score_stride: int | None = None,
    ) -> None:
        """See ``windows.scoring_stride`` for what no ``score_stride`` means."""
        self._dataset = dataset
        self._context_length = context_length
        self._score_stride = scoring_stride(context_length, score_stride)
        self._train = Windows(dataset, Split.TRAIN, context_length, stride)
        self._num_targets = self._train.num_targets
        self._scored: dict[Split, Windows] = {}
        self._epochs = ShuffledEpochs(len(self._train), seed)

    @property
    def num_samples(self) -> int:
        """Training windows in one epoch."""
        return len(self._train)

    def batch(self, step: int, part: int, num_parts: int, part_size: int) -> Batch:
        """Return part ``part`` of the global batch of ``step``, which has num_parts * part_size samples.

        The mean over parts of (sum of a part's counted losses / ``loss_weight``) is the mean loss of the
        global batch.
        """
        size = num_parts * part_size
        samples = self._epochs.samples(step * size, size)
        own = samples[part * part_size : (part + 1) * part_size]
        loss_weight = torch.tensor(float(self._num_targets[samples].sum() / num_parts))
        return _tensors(self._train, own) | {"loss_weight": loss_weight}

    def evaluation(self, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        """Yield this part's share of the validation windows; over all parts each comes exactly once."""
        return self.scored(Split.VALIDATION, part, num_parts, batch_size)

    def scored(self, split: Split, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        """Yield this part's windows of ``split``."""
        windows = self._windows(split)
        own = np.arange(part, len(windows), num_parts)
        for start in range(0, len(own), batch_size):
            yield _tensors(windows, own[start : start + batch_size])

    def num_scored(self, split: Split) -> int:
        """Return how many targets of ``split`` count."""
        return int(self._windows(split).num_targets.sum())

    def _windows(self, split: Split) -> Windows:
        if split not in self._scored:
            self._scored[split] = Windows(self._dataset, split, self._context_length, self._score_stride)
        return self._scored[split]


def _tensors(windows: Windows, samples: Ints) -> Batch:
    return {name: torch.from_numpy(array) for name, array in windows.gather(samples).items()}
