"""A loader read by the core gives what a plain loop over it gives, from any step on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from hpc.base.errors import UserError
from stockpred.library.loaders import epochs_of
from stockpred.library.stream import LoaderStream, Share

DATASET = TensorDataset(torch.arange(23.0))
NUM_EPOCHS = 3
ALONE = Share(0, 1, 1)
Make = Callable[[], Any]


class Counted(Dataset[torch.Tensor]):
    """Remembers which samples were loaded."""

    def __init__(self) -> None:
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> torch.Tensor:
        self.loaded.append(index)
        return torch.tensor(float(index))


class Noisy(Dataset[torch.Tensor]):
    """Draws from every global generator, as augmentations do."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, torch.rand(()).item(), np.random.rand(), random.random()])


class Endless(IterableDataset[torch.Tensor]):
    """Samples without an index and without a length."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.arange(23.0))


def stream_of(loader: Any, share: Share = ALONE, validation: Any = None) -> LoaderStream:
    return LoaderStream(
        epochs_of(loader, seed=5, name="train_loader"),
        None if validation is None else epochs_of(validation, seed=5, name="val_loader"),
        share,
    )


def read(loader: Any, share: Share = ALONE, *, first: int = 0) -> list[list[Any]]:
    """Return what every part of this rank gets in each step from ``first`` on."""
    stream = stream_of(loader, share)
    steps = range(first, NUM_EPOCHS * stream.steps_per_epoch)
    return [
        [content_of(stream.batch(step, part, share.num_parts, 1)) for part in share.own] for step in steps
    ]


def content_of(batch: Any) -> list[float]:
    content = batch["payload"].content
    tensor = content[0] if isinstance(content, list | tuple) else content
    return [float(value) for value in tensor.flatten()]


def plain(loader: Any) -> list[list[Any]]:
    batches = [batch for _ in range(NUM_EPOCHS) for batch in loader]
    return [[[float(x) for x in (b[0] if isinstance(b, list | tuple) else b).flatten()]] for b in batches]


def seeded_generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


ORDERED: dict[str, Make] = {
    "in order": lambda: DataLoader(DATASET, batch_size=5),
    "last dropped": lambda: DataLoader(DATASET, batch_size=5, drop_last=True),
    "shuffled by a generator": lambda: DataLoader(
        DATASET, batch_size=5, shuffle=True, generator=seeded_generator()
    ),
    "by workers": lambda: DataLoader(
        DATASET, batch_size=5, shuffle=True, generator=seeded_generator(), num_workers=2
    ),
    "by a sampler's generator": lambda: DataLoader(
        DATASET, batch_size=5, sampler=RandomSampler(DATASET, generator=seeded_generator())
    ),
    "by batches": lambda: DataLoader(DATASET, batch_sampler=BatchSampler(range(23), 4, False)),
    "one by one": lambda: DataLoader(DATASET, batch_size=None),
    "a list": lambda: [(torch.arange(3.0),), (torch.arange(4.0),), (torch.arange(2.0),)],
    "without an index": lambda: DataLoader(Endless(), batch_size=5),
}


@pytest.mark.parametrize("make", ORDERED.values(), ids=ORDERED.keys())
def test_batches_come_as_in_a_plain_loop(make: Make) -> None:
    assert read(make()) == plain(make())


SHUFFLED: dict[str, Make] = {
    **ORDERED,
    "shuffled": lambda: DataLoader(DATASET, batch_size=5, shuffle=True),
    "shuffled by workers that stay": lambda: DataLoader(
        DATASET, batch_size=5, shuffle=True, num_workers=2, persistent_workers=True
    ),
    "weighted": lambda: DataLoader(
        DATASET, batch_size=5, sampler=WeightedRandomSampler(list(range(1, 24)), 23)
    ),
    "a subset": lambda: DataLoader(DATASET, batch_size=5, sampler=SubsetRandomSampler(range(4, 20))),
    "random samples": lambda: DataLoader(Noisy(), batch_size=5, shuffle=True),
    "random samples by workers": lambda: DataLoader(Noisy(), batch_size=5, shuffle=True, num_workers=2),
}


@pytest.mark.parametrize("make", SHUFFLED.values(), ids=SHUFFLED.keys())
def test_after_a_restart_in_the_middle_of_an_epoch_the_same_batches_follow(make: Make) -> None:
    whole = read(make())
    torch.manual_seed(random.randrange(2**31))
    first = len(whole) // 2
    assert read(make(), first=first) == whole[first:]


def test_a_shuffled_loader_gives_each_sample_once_an_epoch_and_another_order_each_time() -> None:
    batches = [batch[0] for batch in read(DataLoader(DATASET, batch_size=5, shuffle=True))]
    epochs = [list(chain(*batches[5 * epoch : 5 * epoch + 5])) for epoch in range(NUM_EPOCHS)]
    assert all(sorted(epoch) == [float(value) for value in range(23)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == NUM_EPOCHS


def test_what_was_trained_on_before_is_not_loaded_again() -> None:
    dataset = Counted()
    stream = stream_of(DataLoader(dataset, batch_size=5))
    content_of(stream.batch(3, 0, 1, 1))
    assert dataset.loaded == [15, 16, 17, 18, 19]


@pytest.mark.parametrize("sampler", [None, DistributedSampler(DATASET, 2, 1, shuffle=True, seed=9)])
def test_ranks_share_what_one_process_with_larger_batches_sees(sampler: Any) -> None:
    """A sampler made for one of two ranks is read as that of all samples."""

    def loader(batch_size: int) -> DataLoader[Any]:
        return DataLoader(DATASET, batch_size=batch_size, sampler=sampler)

    ranks = [read(loader(3), Share(rank, 2, 2)) for rank in range(2)]
    joint = read(loader(12))
    for step, (batch,) in enumerate(joint):
        real = [part for rank in ranks for part in rank[step]]
        assert list(chain(*real))[: len(batch)] == batch


def test_the_weights_of_parts_make_the_mean_over_samples() -> None:
    """23 samples in batches of 3 for 4 parts: 12 samples, then 11 of which the last part has 2."""
    weights = []
    for rank in range(2):
        stream = stream_of(DataLoader(DATASET, batch_size=3), Share(rank, 2, 2))
        for step in range(2):
            for part in stream.share.own:
                weights.append((step, part, float(stream.batch(step, part, 4, 1)["loss_weight"])))
    expected = {(0, part): 1.0 for part in range(4)}
    expected |= {(1, part): 4 * size / 11 for part, size in enumerate([3, 3, 3, 2])}
    assert {(step, part): weight for step, part, weight in weights} == pytest.approx(expected)


def test_a_part_without_a_batch_counts_for_nothing() -> None:
    stream = stream_of(DataLoader(DATASET, batch_size=10), Share(1, 2, 1))
    assert float(stream.batch(1, 1, 2, 1)["loss_weight"]) == 0.0


@pytest.mark.parametrize("make", ORDERED.values(), ids=ORDERED.keys())
def test_ranks_share_the_validation_loader_without_a_sample_twice(make: Make) -> None:
    streams = [stream_of(make(), Share(rank, 3, 1), make()) for rank in range(3)]
    found = [
        content_of(batch) for rank, s in enumerate(streams) for batch in list(s.evaluation(rank, 3, 1))[1:]
    ]
    epoch = make()
    assert sorted(found) == sorted(batch for (batch,) in plain(epoch)[: len(found)])
    assert len(found) == streams[0].validation.num_batches  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        ([], "train_loader has no batches"),
        (DataLoader(TensorDataset(torch.zeros(3)), batch_size=5, drop_last=True), "has no batches"),
        ((batch for batch in [1]), "a generator, which cannot be read once per epoch"),
        (7, "a int, which cannot be read"),
    ],
)
def test_a_loader_that_gives_nothing_to_learn_from_is_one_clear_error(loader: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        epochs_of(loader, seed=0, name="train_loader")


def test_a_sampler_of_ones_own_that_shares_out_is_refused() -> None:
    class Own(DistributedSampler[Any]):
        pass

    with pytest.raises(UserError, match="share of its own choice"):
        epochs_of(DataLoader(DATASET, sampler=Own(DATASET, 2, 0)), seed=0, name="train_loader")
