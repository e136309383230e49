"""A person's loaders as the core's stream: the same batches at the same step, also after a restart.

An epoch is a list of batches, dealt out to the parts of a step: with P parts (ranks x accumulation), part p
of step s gets batch s P + p. So ``batch_size`` of a loader counts samples per rank and micro-batch, and two
ranks see in one step what one process with batches twice as large sees.

A ``DataLoader`` over a dataset with an index is rebuilt around the indices of each epoch, so that a resumed
epoch begins in its middle without loading what was before; so does a list of batches. Anything else that can
be iterated over again, also a ``DataLoader`` of a class with an ``__iter__`` of its own, is read from its
beginning, and what was trained on before is passed over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from hpc.base.errors import UserError
from stockpred.library.batches import Payload
from stockpred.library.orders import Indices, Order
from stockpred.library.seeds import OwnNumbers, seed_all, seeded
from stockpred.library.sources import Sources
from stockpred.train.cadence import random_key

Loader = Iterable[Any]


class Epochs(ABC):
    """The batches of a loader, epoch by epoch; each epoch has ``num_batches``."""

    num_batches: int

    @abstractmethod
    def read(self, epoch: int, positions: Sequence[int]) -> Iterator[Payload]:
        """Yield the batches at rising ``positions`` of an epoch."""

    @abstractmethod
    def sizes(self, epoch: int, positions: Sequence[int]) -> list[int] | None:
        """Return how many samples the batches at ``positions`` have; None where that is unknown."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values that decide what the epochs hold, beside seed and epoch."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` returned, in this process or another."""
        del state


def epochs_of(loader: Loader, *, seed: int, name: str) -> Epochs:
    """Return the epochs of a loader; ``name`` is what the person calls it. Raises UserError for no loader."""
    if _has_indices(loader):
        epochs: Epochs = IndexedEpochs(loader, seed, name)
    elif isinstance(loader, Sequence):
        epochs = ListedEpochs(loader, seed)
    else:
        epochs = IteratedEpochs(loader, seed, name)
    if epochs.num_batches == 0:
        raise UserError(
            f"{name} has no batches",
            fix="give it samples; with drop_last=True it needs batch_size of them at least",
        )
    return epochs


def _has_indices(loader: Loader) -> TypeGuard[DataLoader[Any]]:
    """Say whether a loader gives nothing but its dataset's samples in its sampler's order."""
    return (
        isinstance(loader, DataLoader)
        and type(loader).__iter__ is DataLoader.__iter__
        and not isinstance(loader.dataset, IterableDataset)
    )


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


@dataclass(frozen=True)
class WorkerStart:
    """What a worker of a rebuilt loader does first: it shows the person their own dataset."""

    own: Callable[[int], None] | None

    def __call__(self, worker: int) -> None:
        info: Any = get_worker_info()
        object.__setattr__(info, "dataset", info.dataset.dataset)  # torch lets nobody set it in the usual way
        if self.own is not None:
            self.own(worker)


class IndexedEpochs(Epochs):
    """A ``DataLoader`` over a dataset with an index; the order of an epoch follows from seed and epoch."""

    def __init__(self, loader: DataLoader[Any], seed: int, name: str) -> None:
        self.seed, self.name = seed, name
        self.is_batched = loader.batch_sampler is not None
        self.order = Order(loader, seed, name)
        self.num_batches = len(self.order.batches(0))
        self.positions = Positions()
        self.loader = _rebuilt(loader, self.positions)

    def read(self, epoch: int, positions: Sequence[int]) -> Iterator[Payload]:
        batches = self._batches(epoch)
        self.positions.items = [self._with_key(epoch, position, batches[position]) for position in positions]
        if not self.is_batched:
            return map(Payload.of, iter(self.loader))
        return map(Payload, iter(self.loader), [len(batches[position]) for position in positions])

    def sizes(self, epoch: int, positions: Sequence[int]) -> list[int] | None:
        if not self.is_batched:
            return None
        batches = self._batches(epoch)
        return [len(batches[position]) for position in positions]

    def state_dict(self) -> dict[str, Any]:
        return self.order.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.order.load_state_dict(state)

    def _batches(self, epoch: int) -> list[Indices]:
        batches = self.order.batches(epoch)
        if len(batches) != self.num_batches:
            raise UserError(
                f"epoch {epoch + 1} has {len(batches)} batches, the first had {self.num_batches}",
                where=self.name,
                fix="let its sampler give equally many in every epoch",
            )
        return batches

    def _with_key(self, epoch: int, position: int, indices: Indices) -> Any:
        key = random_key(self.seed, "loader", epoch, position)
        if not self.is_batched:
            return (key, indices)
        return [(None if place else key, index) for place, index in enumerate(indices)]


class ListedEpochs(Epochs):
    """A list of batches, the same in every epoch; one that makes them when asked may draw random numbers."""

    def __init__(self, batches: Sequence[Any], seed: int) -> None:
        self.batches = batches
        self.seed = seed
        self.num_batches = len(batches)

    def read(self, epoch: int, positions: Sequence[int]) -> Iterator[Payload]:
        return (Payload.of(self._batch(epoch, position)) for position in positions)

    def sizes(self, epoch: int, positions: Sequence[int]) -> list[int] | None:
        return [payload.num_samples for payload in self.read(epoch, positions)]

    def _batch(self, epoch: int, position: int) -> Any:
        if isinstance(self.batches, list | tuple):
            return self.batches[position]
        with seeded(random_key(self.seed, "loader", epoch, position)):
            return self.batches[position]


class IteratedEpochs(Epochs):
    """Anything that can be iterated over again and again; reading begins at the first batch each time.

    It draws from the global generators as if nobody else did, and from generators of its own as it would in a
    plain loop, however many of its batches are passed over.
    """

    def __init__(self, loader: Loader, seed: int, name: str) -> None:
        if isinstance(loader, Iterator) or not isinstance(loader, Iterable):
            raise UserError(
                f"{name} is a {type(loader).__name__}, which cannot be read once per epoch",
                where=name,
                fix="give a DataLoader, a list of batches, or an object with __iter__",
            )
        self.loader = loader
        self.seed, self.name = seed, name
        self.sources = Sources(loader, name)
        self.begins = {0: self.sources.states()}
        """By epoch, how the loader's own generators begin it: the one being read, and the next when known."""
        with self.sources.put_back(), seeded(random_key(seed, "loader", 0)):
            self.num_batches = _length(loader)

    def read(self, epoch: int, positions: Sequence[int]) -> Iterator[Payload]:
        """Yield the batches at ``positions``, then read on: raise UserError unless the epoch ends in time."""
        wanted = iter(positions)
        position = next(wanted, None)
        num_read = 0
        for content in self._contents(epoch):
            while num_read == position:
                yield Payload.of(content)
                position = next(wanted, None)
            num_read += 1
            if num_read > self.num_batches:
                raise self._wrong_length(epoch, "more than")
        if num_read < self.num_batches:
            raise self._wrong_length(epoch, f"{num_read} batches instead of")

    def sizes(self, epoch: int, positions: Sequence[int]) -> list[int] | None:
        del epoch, positions
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"begins": self.begins}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.begins = dict(state.get("begins", self.begins))

    def _contents(self, epoch: int) -> Iterator[Any]:
        begin = self.begins.get(epoch, self.sources.states())
        self.begins = {epoch: begin}
        self.sources.set(begin)
        numbers = OwnNumbers(random_key(self.seed, "loader", epoch))
        with numbers.in_turn():
            contents = iter(self.loader)
        end = object()
        while True:
            with numbers.in_turn():
                content = next(contents, end)
            if content is end:
                break
            yield content
        self.begins[epoch + 1] = self.sources.states()

    def _wrong_length(self, epoch: int, found: str) -> UserError:
        return UserError(
            f"epoch {epoch + 1} of the {type(self.loader).__name__} has {found} {self.num_batches} batches",
            where=self.name,
            fix="let it give len(loader) batches in every epoch; without a len the first epoch is counted",
        )


def _length(loader: Loader) -> int:
    """Return how many batches a loader gives; one that does not say is read once to count them."""
    if isinstance(loader, Sized):
        try:
            return len(loader)
        except TypeError:  # a DataLoader over an IterableDataset has a length only where that has one
            pass
    return sum(1 for _ in loader)


def _rebuilt(loader: DataLoader[Any], positions: Positions) -> DataLoader[Any]:
    """Return the same loader over given positions; what else the person chose stays.

    Except for ``in_order=False``: batches that come as they are ready could not be told apart on a resume.
    """
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
        worker_init_fn=WorkerStart(loader.worker_init_fn),
        multiprocessing_context=loader.multiprocessing_context,
        generator=torch.Generator().manual_seed(0),  # else each iteration draws from the global generator
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
