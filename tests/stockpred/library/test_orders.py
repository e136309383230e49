"""Samplers draw what they draw in a plain loop: after a restart, and when their loader is given again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from hpc.base.errors import UserError
from stockpred.library.orders import Order

DATASET = TensorDataset(torch.arange(23.0))
NUM_EPOCHS = 5
Make = Callable[[], DataLoader[Any]]


class Shuffling(Sampler[int]):
    """Shuffles with a generator of any kind, under a name of its own."""

    def __init__(self, rng: Any) -> None:
        self.rng = rng

    def __iter__(self) -> Iterator[int]:
        if isinstance(self.rng, torch.Generator):
            return iter(torch.randperm(23, generator=self.rng).tolist())
        indices = list(range(23))
        self.rng.shuffle(indices)
        return iter(indices)

    def __len__(self) -> int:
        return 23


class Reshuffling(Shuffling):
    """Shuffles further what it has shuffled, and counts."""

    def __init__(self, rng: Any) -> None:
        super().__init__(rng)
        self.indices = list(range(23))
        self.count = 0

    def __iter__(self) -> Iterator[int]:
        self.count += 1
        self.rng.shuffle(self.indices)
        return iter([(index + self.count) % 23 for index in self.indices])


class Batches(Shuffling):
    """Gives batches of indices."""

    def __iter__(self) -> Iterator[Any]:
        indices = list(super().__iter__())
        return iter([indices[:11], indices[11:]])

    def __len__(self) -> int:
        return 2


class Told(Shuffling):
    """Is told the epoch, and has a generator nevertheless."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter([(index + self.epoch) % 23 for index in super().__iter__()])


def torch_generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def sampled(sampler: Callable[[], Any], **options: Any) -> Make:
    return lambda: DataLoader(DATASET, batch_size=5, sampler=sampler(), **options)


GENERATORS: dict[str, Make] = {
    "numpy": sampled(lambda: Shuffling(np.random.default_rng(0))),
    "numpy's Philox": sampled(lambda: Shuffling(np.random.Generator(np.random.Philox(0)))),
    "numpy's older kind": sampled(lambda: Shuffling(np.random.RandomState(0))),
    "Python": sampled(lambda: Shuffling(random.Random(0))),
    "torch": sampled(lambda: Shuffling(torch_generator())),
    "torch, for batches": lambda: DataLoader(DATASET, batch_sampler=Batches(torch_generator())),
    "numpy, for batches": lambda: DataLoader(DATASET, batch_sampler=Batches(np.random.default_rng(0))),
    "numpy, within batches": lambda: DataLoader(
        DATASET, batch_sampler=BatchSampler(Shuffling(np.random.default_rng(0)), 5, False)
    ),
    "torch, the loader's": lambda: DataLoader(DATASET, 5, shuffle=True, generator=torch_generator()),
    "torch, weighted": sampled(
        lambda: WeightedRandomSampler([1.0] * 23, 23, generator=torch_generator()),
        generator=torch_generator(),
    ),
}
REMEMBERING: dict[str, Make] = {
    **GENERATORS,
    "a list and a counter": sampled(lambda: Reshuffling(random.Random(0))),
    "told the epoch": sampled(lambda: Told(np.random.default_rng(0))),
}


def order_of(loader: DataLoader[Any]) -> Order:
    return Order(loader, 5, "train_loader")


def epochs(order: Order) -> list[list[Any]]:
    return [order.batches(epoch) for epoch in range(NUM_EPOCHS)]


def plain_loop(loader: DataLoader[Any]) -> list[list[Any]]:
    found = []
    for epoch in range(NUM_EPOCHS):
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
        found.append([[int(value) for value in values] for (values,) in loader])
    return found


@pytest.mark.parametrize("make", REMEMBERING.values(), ids=REMEMBERING.keys())
def test_a_sampler_that_remembers_draws_what_it_draws_in_a_plain_loop(make: Make) -> None:
    assert epochs(order_of(make())) == plain_loop(make())


@pytest.mark.parametrize("make", REMEMBERING.values(), ids=REMEMBERING.keys())
def test_a_later_epoch_is_the_same_where_a_restart_begins_with_it(make: Make) -> None:
    whole = epochs(order_of(make()))
    later = order_of(make())
    assert later.batches(0) == whole[0]
    assert [later.batches(epoch) for epoch in (3, 4)] == whole[3:]


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS.keys())
def test_a_loader_given_again_begins_as_it_did_whatever_was_drawn_from_it_since(make: Make) -> None:
    loader = make()
    first = order_of(loader)
    whole = epochs(first)
    list(loader)
    again = order_of(loader)
    again.load_state_dict(first.state_dict())
    assert epochs(again) == whole


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS.keys())
def test_training_leaves_a_persons_generators_as_they_are(make: Make) -> None:
    loader, untouched = make(), make()
    epochs(order_of(loader))
    assert list(map(str, loader)) == list(map(str, untouched))


def test_two_orders_of_one_loader_do_not_disturb_each_other() -> None:
    loader = DataLoader(DATASET, 5, shuffle=True, generator=torch_generator())
    training, validation = order_of(loader), order_of(loader)
    found = [training.batches(epoch) for epoch in range(NUM_EPOCHS) if validation.batches(epoch)]
    assert found == plain_loop(loader)


WITHOUT: dict[str, Make] = {
    "random": lambda: DataLoader(DATASET, 5, shuffle=True),
    "in order, with a generator for workers": lambda: DataLoader(DATASET, 5, generator=torch_generator()),
    "distributed": sampled(lambda: DistributedSampler(DATASET, 2, 0)),
    "a list": sampled(lambda: [3, 1, 2]),
}


@pytest.mark.parametrize("make", WITHOUT.values(), ids=WITHOUT.keys())
def test_a_sampler_that_remembers_nothing_draws_only_the_epoch_that_is_asked_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = Order._drawn
    monkeypatch.setattr(Order, "_drawn", lambda self, epoch: drawn.append(epoch) or draw(self, epoch))
    order = order_of(make())
    order.batches(0)
    order.batches(1000)
    assert drawn == [0, 1000]


def test_the_states_of_other_generators_are_refused() -> None:
    saved = order_of(GENERATORS["torch"]()).state_dict()
    for other in ("numpy", "torch, the loader's"):
        with pytest.raises(UserError, match="other random generators") as caught:
            order_of(GENERATORS[other]()).load_state_dict(saved)
        assert caught.value.where == "train_loader"


def test_batches_over_a_distributed_sampler_are_those_of_all_samples() -> None:
    sampler = DistributedSampler(DATASET, 2, 1, shuffle=True, seed=9)
    given = DataLoader(DATASET, batch_sampler=BatchSampler(sampler, 4, True))
    whole = DataLoader(
        DATASET, 4, sampler=DistributedSampler(DATASET, 1, 0, shuffle=True, seed=9), drop_last=True
    )
    assert epochs(order_of(given)) == plain_loop(whole)


class OwnDistributed(DistributedSampler[Any]):
    """Shares out in a way that nobody else can know."""


class OwnBatches(BatchSampler):
    """Makes batches in a way that nobody else can know."""


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (sampled(lambda: OwnDistributed(DATASET, 2, 0)), "OwnDistributed gives each rank a share"),
        (
            lambda: DataLoader(
                DATASET, batch_sampler=OwnBatches(DistributedSampler(DATASET, 2, 0), 5, False)
            ),
            "OwnBatches over a DistributedSampler gives each rank a share",
        ),
    ],
)
def test_a_sampler_of_ones_own_that_shares_out_is_refused(make: Make, said: str) -> None:
    with pytest.raises(UserError, match=said):
        order_of(make())


def test_a_sampler_that_stands_in_a_circle_is_read_once() -> None:
    sampler = Shuffling(np.random.default_rng(0))
    sampler.sampler = SequentialSampler(DATASET)  # type: ignore[attr-defined]
    sampler.sampler.sampler = sampler  # type: ignore[attr-defined]
    assert len(order_of(DataLoader(DATASET, 5, sampler=sampler)).state_dict()) == 1


def test_what_a_random_sampler_draws_without_a_generator_follows_from_the_seed() -> None:
    loader = DataLoader(DATASET, 5, sampler=RandomSampler(DATASET, replacement=True))
    assert epochs(order_of(loader)) == epochs(order_of(loader)) != epochs(Order(loader, 6, "train_loader"))
