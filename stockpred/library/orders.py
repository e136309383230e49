"""Which indices make up the batches of each epoch of a ``DataLoader``, as a plain loop over it has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from hpc.base.errors import UserError
from stockpred.library.seeds import seeded
from stockpred.library.sources import Sources, States
from stockpred.train.cadence import random_key

Indices = Any
"""What a batch is made of: a list of indices, or one where the dataset itself gives batches."""

WITHOUT_STATE = (
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    DistributedSampler,
    range,
    list,
    tuple,
)
"""Samplers whose epochs follow from the global generators and ``set_epoch``, unless they have a generator."""


class Order:
    """The batches of indices of each epoch.

    What the sampler draws from the global generators follows from seed and epoch. For all else that it
    remembers, every epoch is drawn, one after another, as in a plain loop over the loader. Generators that it
    holds are moved on only while it draws; between its turns they are as the person left them.
    """

    def __init__(self, loader: DataLoader[Any], seed: int, name: str) -> None:
        self.seed = seed
        self.sampler: Any = _whole_sampler(loader, name)
        self.is_without_state = _is_without_state(self.sampler)
        self.loader_generator: torch.Generator | None = loader.generator
        self.are_workers_kept = loader.persistent_workers
        self.sources = Sources(loader, name)
        self.begin = self.states = self.sources.states()
        self.epoch = -1
        self.current: list[Indices] = []

    def batches(self, epoch: int) -> list[Indices]:
        if epoch == self.epoch:
            return self.current
        if epoch < self.epoch:
            self._begin_with(self.begin)
        first = epoch if self.is_without_state else self.epoch + 1
        for between in range(first, epoch + 1):
            self.current = self._drawn(between)
        self.epoch = epoch
        return self.current

    def state_dict(self) -> States:
        """Return the states of the generators before the first epoch."""
        return self.begin

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin the first epoch with other states. Raises UserError for those of other generators."""
        if state != self.begin:
            with self.sources.put_back():
                self.sources.set(state)
            self._begin_with(dict(state))

    def _begin_with(self, states: States) -> None:
        self.begin = self.states = states
        self.epoch = -1

    def _drawn(self, epoch: int) -> list[Indices]:
        """Draw an epoch step by step as ``iter(loader)`` does."""
        for sampler in (self.sampler, getattr(self.sampler, "sampler", None)):
            set_epoch = getattr(sampler, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)
        with seeded(random_key(self.seed, "order", epoch)), self.sources.put_back():
            self.sources.set(self.states)
            coming = iter(self.sampler)
            if self.loader_generator is not None and not (self.are_workers_kept and epoch > 0):
                # DataLoader draws a seed for its workers, whether or not it has any.
                torch.empty((), dtype=torch.int64).random_(generator=self.loader_generator)
            drawn = list(coming)
            self.states = self.sources.states()
        return drawn


def _is_without_state(sampler: Any) -> bool:
    if type(sampler) is BatchSampler:
        return _is_without_state(sampler.sampler)
    return type(sampler) in WITHOUT_STATE and getattr(sampler, "generator", None) is None


def _whole_sampler(loader: DataLoader[Any], name: str) -> Any:
    """Return what gives the batches of all ranks: a ``DistributedSampler`` would give one rank's share."""
    own: Any = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    sampler = own if loader.batch_sampler is None else getattr(own, "sampler", None)
    if not hasattr(sampler, "num_replicas"):
        return own
    if type(sampler) is not DistributedSampler or type(own) not in (DistributedSampler, BatchSampler):
        kinds = dict.fromkeys([type(own).__name__, type(sampler).__name__])
        raise UserError(
            f"the loader's {' over a '.join(kinds)} gives each rank a share of its own choice",
            where=name,
            fix="give the loader of all samples, or torch's DistributedSampler: ranks share out the batches",
        )
    shuffle, seed = sampler.shuffle, sampler.seed
    whole: Any = DistributedSampler(sampler.dataset, num_replicas=1, rank=0, shuffle=shuffle, seed=seed)
    return BatchSampler(whole, own.batch_size, own.drop_last) if isinstance(own, BatchSampler) else whole
