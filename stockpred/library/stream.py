"""The batches of a person's loaders, dealt out to the parts of each step.

The core counts samples; here its sample is one batch of the loader, so that an epoch ends with a step and its
last, shorter batches keep their weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch

from stockpred.library.batches import END_OF_EPOCH, LOSS_WEIGHT, PAYLOAD, Payload
from stockpred.library.loaders import Epochs
from stockpred.train.learner import Batch


@dataclass(frozen=True)
class Share:
    """Which parts of a step are this rank's: ``accumulate`` micro-batches in a row."""

    rank: int
    world_size: int
    accumulate: int

    @property
    def num_parts(self) -> int:
        return self.world_size * self.accumulate

    @property
    def own(self) -> range:
        return range(self.rank * self.accumulate, (self.rank + 1) * self.accumulate)


class LoaderStream:
    """A loader as the core's stream, and another for validation.

    Each batch is a dict: ``payload`` is what the loader gave, ``loss_weight`` the factor by which the mean
    loss of this part counts in the mean over parts. Steps are read in rising order. A validation begins with
    an item that is no batch but has the key ``end_of_epoch``.
    """

    def __init__(self, training: Epochs, validation: Epochs | None, share: Share) -> None:
        self.training = training
        self.validation = validation
        self.share = share
        self.steps_per_epoch = math.ceil(training.num_batches / share.num_parts)
        self._coming: Iterator[Payload] = iter(())
        self._step: int | None = None
        self._payloads: dict[int, Payload] = {}

    @property
    def num_samples(self) -> int:
        """The parts of an epoch; the last step has some without a batch where they do not come out even."""
        return self.steps_per_epoch * self.share.num_parts

    def batch(self, step: int, part: int, num_parts: int, part_size: int) -> Batch:
        assert (num_parts, part_size) == (self.share.num_parts, 1)
        if step != self._step:
            self._read(step)
        weight = self._weight(step, part)
        payload = replace(self._payloads[part], part=part, counts=weight > 0.0)
        return cast(Batch, {PAYLOAD: payload, LOSS_WEIGHT: torch.tensor(weight)})

    def evaluation(self, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        """Yield the mark of the epoch's end, then every ``num_parts``-th batch of the validation loader."""
        del batch_size
        yield {END_OF_EPOCH: torch.tensor(True)}
        if self.validation is None:
            return
        for payload in self.validation.read(0, range(part, self.validation.num_batches, num_parts)):
            yield cast(Batch, {PAYLOAD: payload})

    def _read(self, step: int) -> None:
        """Take this rank's batches of ``step``: the next ones of the epoch, or those after a jump."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if self._step is None or step != self._step + 1 or within == 0:
            ahead = range(within, self.steps_per_epoch)
            positions = [position for later in ahead for position in self._own_positions(later)]
            self._coming = self.training.read(epoch, positions)
        self._payloads = {part: next(self._coming) for part in self.share.own}
        if within == self.steps_per_epoch - 1:
            next(self._coming, None)  # there is none; the loader sees that it has been read to its end
        self._step = step

    def _own_positions(self, within: int) -> list[int]:
        return [self._position(within, part) for part in self.share.own]

    def _position(self, within: int, part: int) -> int:
        """Return the batch of a part; one that has none repeats the last of the epoch, with no weight."""
        return min(within * self.share.num_parts + part, self.training.num_batches - 1)

    def _weight(self, step: int, part: int) -> float:
        """Return parts x samples of this part / samples of the step; alike where sizes are unknown."""
        epoch, within = divmod(step, self.steps_per_epoch)
        first = within * self.share.num_parts
        real = range(first, min(first + self.share.num_parts, self.training.num_batches))
        if first + part not in real:
            return 0.0
        sizes = self.training.sizes(epoch, real) or [1] * len(real)
        return self.share.num_parts * sizes[part] / sum(sizes)
