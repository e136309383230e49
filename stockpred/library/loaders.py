"""A person's loaders as the core's stream: the same batches at the same step, also after a restart.

An epoch is a list of batches, dealt out to the parts of a step: with P parts (ranks x accumulation), part p
of step s gets batch s P + p. So ``batch_size`` of a loader counts samples per rank and micro-batch, and two
ranks see in one step what one process with batches twice as large sees.

A ``DataLoader`` over a dataset with an index is rebuilt around the indices of each epoch, so that a resumed
epoch begins in its middle without loading what was before; so does a list of batches. Anything else that can
be iterated over again is read from its beginning, and what was trained on before is passed over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, IterableDataset

from hpc.base.errors import UserError
from stockpred.library.batches import Payload
from stockpred.library.seeds import seed_all, seeded
from stockpred.train.cadence import random_key

Loader = Iterable[Any]
Indices = Any
"""What a batch is made of: a list of indices, or one where the dataset itself gives batches."""


class Epochs(ABC):
    """The batches of a loader, epoch by epoch; each epoch has ``num_batches``."""

    num_batches: int

    @abstractmethod
    def read(self, epoch: int, positions: Sequence[int]) -> Iterator[Payload]:
        """Yield the batches at rising ``positions`` of an epoch."""

    @abstractmethod
    def sizes(self, epoch: int, positions: Sequence[int]) -> list[int] | None:
        """Return how many samples the batches at ``positions`` have; None where that is unknown."""


def epochs_of(loader: Loader, *, seed: int, name: str) -> Epochs:
    """Return the epochs of a loader; ``name`` is what the person calls it. Raises UserError for no loader."""
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        epochs: Epochs = IndexedEpochs(loader, seed)
    elif isinstance(loader, Sequence):
        epochs = ListedEpochs(loader)
    else:
        epochs = IteratedEpochs(loader, seed, name)
    if epochs.num_batches == 0:
        raise UserError(
            f"{name} has no batches",
            fix="give it samples; with drop_last=True it needs batch_size of them at least",
        )
    return epochs


class Keyed(Dataset[Any]):
    """A dataset whose random numbers follow a key that travels with the first index of each batch.

    Items are (key or None, index).
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, item: tuple[int | None, Any]) -> Any:
        key, index = item
        if key is not None:
            seed_all(key)
        return self.dataset[index]

    def __getitems__(self, items: Sequence[tuple[int | None, Any]]) -> list[Any]:
        if not hasattr(self.dataset, "__getitems__"):
            return [self[item] for item in items]
        if items and items[0][0] is not None:
            seed_all(items[0][0])
        return list(self.dataset.__getitems__([index for _, index in items]))


class Positions:
    """The sampler of a rebuilt loader: what to load next, set before each iteration."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class IndexedEpochs(Epochs):
    """A ``DataLoader`` over a dataset with an index; the order of an epoch follows from seed and epoch."""

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        self.seed = seed
        self.is_batched = loader.batch_sampler is not None
        self.order = Order(loader, seed)
        self.num_batches = len(self.order.batches(0))
        self.positions = Positions()
        self.loader = _rebuilt(loader, self.positions)

    def read(self, epoch: int, positions: Sequence[int]) -> Iterator[Payload]:
        batches = self._batches(epoch)
        self.positions.items = [self._with_key(epoch, position, batches[position]) for position in positions]
        return map(Payload, iter(self.loader))

    def sizes(self, epoch: int, positions: Sequence[int]) -> list[int] | None:
        if not self.is_batched:
            return None
        batches = self._batches(epoch)
        return [len(batches[position]) for position in positions]

    def _batches(self, epoch: int) -> list[Indices]:
        batches = self.order.batches(epoch)
        if len(batches) != self.num_batches:
            raise UserError(
                f"epoch {epoch + 1} has {len(batches)} batches, the first had {self.num_batches}",
                where="train_loader",
                fix="let its sampler give equally many in every epoch",
            )
        return batches

    def _with_key(self, epoch: int, position: int, indices: Indices) -> Any:
        key = random_key(self.seed, "loader", epoch, position)
        if not self.is_batched:
            return (key, indices)
        return [(None if place else key, index) for place, index in enumerate(indices)]


class Order:
    """Which indices make up the batches of an epoch.

    A generator that the person gave to the loader is drawn from as the loader itself would: the order is that
    of a plain loop over it. Without one, the order follows from seed and epoch.
    """

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        self.seed = seed
        self.sampler: Any = _whole_sampler(loader)
        self.loader_generator = loader.generator
        self.generator = loader.generator or _generator_of(self.sampler)
        self.begin = self.generator.get_state() if self.generator is not None else None
        self.epoch = -1
        self.current: list[Indices] = []

    def batches(self, epoch: int) -> list[Indices]:
        if epoch == self.epoch:
            return self.current
        if self.generator is None:
            self.current = self._drawn(epoch)
        else:
            self._replay(self.generator, epoch)
        self.epoch = epoch
        return self.current

    def _drawn(self, epoch: int) -> list[Indices]:
        for sampler in (self.sampler, getattr(self.sampler, "sampler", None)):
            set_epoch = getattr(sampler, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)
        with seeded(random_key(self.seed, "order", epoch)):
            return list(self.sampler)

    def _replay(self, generator: torch.Generator, epoch: int) -> None:
        """Draw every epoch since the last one known, as the person's own loop would have."""
        if epoch < self.epoch:
            assert self.begin is not None
            generator.set_state(self.begin)
            self.epoch = -1
        for between in range(self.epoch + 1, epoch + 1):
            if self.loader_generator is not None:
                # DataLoader draws a seed for its workers first, whether or not it has any.
                torch.empty((), dtype=torch.int64).random_(generator=generator)
            self.current = self._drawn(between)


class ListedEpochs(Epochs):
    """A list of batches, the same in every epoch."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches
        self.num_batches = len(batches)

    def read(self, epoch: int, positions: Sequence[int]) -> Iterator[Payload]:
        del epoch
        return (Payload(self.batches[position]) for position in positions)

    def sizes(self, epoch: int, positions: Sequence[int]) -> list[int] | None:
        return [payload.num_samples for payload in self.read(epoch, positions)]


class IteratedEpochs(Epochs):
    """Anything that can be iterated over again and again; reading begins at the first batch each time."""

    def __init__(self, loader: Loader, seed: int, name: str) -> None:
        if isinstance(loader, Iterator) or not isinstance(loader, Iterable):
            raise UserError(
                f"{name} is a {type(loader).__name__}, which cannot be read once per epoch",
                where=name,
                fix="give a DataLoader, a list of batches, or an object with __iter__",
            )
        self.loader = loader
        self.seed = seed
        self.num_batches = _length(loader)

    def read(self, epoch: int, positions: Sequence[int]) -> Iterator[Payload]:
        seed_all(random_key(self.seed, "loader", epoch))
        wanted = iter(positions)
        position = next(wanted, None)
        for index, content in enumerate(self.loader):
            while index == position:
                yield Payload(content)
                position = next(wanted, None)
            if position is None:
                return

    def sizes(self, epoch: int, positions: Sequence[int]) -> list[int] | None:
        del epoch, positions
        return None


def _length(loader: Loader) -> int:
    """Return how many batches a loader gives; one that does not say is read once to count them."""
    if isinstance(loader, Sized):
        try:
            return len(loader)
        except TypeError:  # a DataLoader over an IterableDataset has a length only where that has one
            pass
    return sum(1 for _ in loader)


def _rebuilt(loader: DataLoader[Any], positions: Positions) -> DataLoader[Any]:
    """Return the same loader over given positions; whatever else the person chose stays."""
    is_batched = loader.batch_sampler is not None
    order: dict[str, Any] = (
        {"batch_sampler": positions} if is_batched else {"sampler": positions, "batch_size": None}
    )
    return DataLoader(
        Keyed(loader.dataset),
        **order,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=torch.Generator().manual_seed(0),  # else each iteration draws from the global generator
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _whole_sampler(loader: DataLoader[Any]) -> Any:
    """Return what gives the batches of all ranks: a ``DistributedSampler`` would give one rank's share."""
    own: Any = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    sampler = own if loader.batch_sampler is None else getattr(own, "sampler", None)
    if not hasattr(sampler, "num_replicas"):
        return own
    if type(sampler) is not DistributedSampler:
        raise UserError(
            f"the loader's {type(sampler).__name__} gives each rank a share of its own choice",
            where="train_loader",
            fix="give the loader of all samples, or torch's DistributedSampler: ranks share out the batches",
        )
    shuffle, seed = sampler.shuffle, sampler.seed
    whole: Any = DistributedSampler(loader.dataset, num_replicas=1, rank=0, shuffle=shuffle, seed=seed)
    if loader.batch_sampler is None:
        return whole
    assert loader.batch_size is not None
    return BatchSampler(whole, loader.batch_size, loader.drop_last)


def _generator_of(sampler: Any) -> torch.Generator | None:
    for candidate in (sampler, getattr(sampler, "sampler", None)):
        generator = getattr(candidate, "generator", None)
        if isinstance(generator, torch.Generator):
            return generator
    return None
