"""A loader read by the core gives what a plain loop over it gives, from any step on."""

from __future__ import annotations

import copy
import math
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    get_worker_info,
)

from hpc.base.errors import UserError
from stockpred.library.batches import END_OF_EPOCH, Payload
from stockpred.library.loaders import epochs_of
from stockpred.library.seeds import seed_all
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


class Slow(Counted):
    """The first samples take the longest."""

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(0.1 if index < 5 else 0.0)
        return super().__getitem__(index)


class Doubled(DataLoader[Any]):
    """Changes batches on their way, as wrappers for devices and augmentations do."""

    def __iter__(self) -> Any:
        for (values,) in super().__iter__():
            yield 2.0 * values


class Sprinkled(IterableDataset[torch.Tensor]):
    """Draws each sample when it is asked for, from every global generator; it does not know its length."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        for number in range(23):
            yield torch.tensor([number, torch.rand(()).item(), np.random.rand(), random.random()])


class Lazy:
    """A loader of one's own that draws each batch when it is asked for, also from generators of its own."""

    def __init__(self, length: int = 5, given: int | None = None) -> None:
        self.length, self.given = length, length if given is None else given
        self.rng = np.random.default_rng(0)
        self.generator = seeded_generator()

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[torch.Tensor]:
        for number in range(self.given):
            own = [self.rng.random(), float(torch.rand((), generator=self.generator))]
            yield torch.tensor([number, *own, torch.rand(()).item()], dtype=torch.float64)


class Drawing(Sequence[torch.Tensor]):
    """A list of batches that are made when they are asked for."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: Any) -> torch.Tensor:
        if index >= len(self):
            raise IndexError
        return torch.tensor([index, torch.rand(()).item()])


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


def read(loader: Any, share: Share = ALONE) -> list[list[Any]]:
    """Return what every part of this rank gets in each step."""
    stream = stream_of(loader, share)
    return read_steps(stream, range(NUM_EPOCHS * stream.steps_per_epoch))


def read_steps(stream: LoaderStream, steps: Iterable[int]) -> list[list[Any]]:
    """Return what every part of this rank gets in each of the steps.

    Between steps the global generators are set to anything, as the core sets them for each part.
    """
    found = []
    for step in steps:
        seed_all(secrets.randbits(32))
        num_parts = stream.share.num_parts
        found.append([content_of(stream.batch(step, part, num_parts, 1)) for part in stream.share.own])
    return found


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
    "by workers that stay": lambda: DataLoader(
        DATASET,
        batch_size=5,
        shuffle=True,
        generator=seeded_generator(),
        num_workers=1,
        persistent_workers=True,
    ),
    "by batches": lambda: DataLoader(DATASET, batch_sampler=BatchSampler(range(23), 4, False)),
    "one by one": lambda: DataLoader(DATASET, batch_size=None),
    "by an iterator of one's own": lambda: Doubled(DATASET, batch_size=5),
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
    "samples drawn on the way": lambda: DataLoader(Sprinkled(), batch_size=5),
    "samples drawn on the way by workers": lambda: DataLoader(Sprinkled(), batch_size=5, num_workers=2),
    "batches drawn on the way": Lazy,
    "an iterator of one's own over a generator's order": lambda: Doubled(
        DATASET, batch_size=5, shuffle=True, generator=seeded_generator()
    ),
    "a list that makes its batches": Drawing,
    "random samples": lambda: DataLoader(Noisy(), batch_size=5, shuffle=True),
    "random samples by workers": lambda: DataLoader(Noisy(), batch_size=5, shuffle=True, num_workers=2),
}


@pytest.mark.parametrize("share", [0.5, 2 / 3, 0.9], ids=["second epoch", "boundary", "third epoch"])
@pytest.mark.parametrize("make", SHUFFLED.values(), ids=SHUFFLED.keys())
def test_after_a_restart_in_the_middle_of_an_epoch_the_same_batches_follow(make: Make, share: float) -> None:
    whole = read(make())
    first = int(len(whole) * share)
    broken_off, resumed = stream_of(make()), stream_of(make())
    read_steps(broken_off, range(first))
    resumed.training.load_state_dict(broken_off.training.state_dict())
    assert read_steps(resumed, range(first, len(whole))) == whole[first:]


@pytest.mark.parametrize("make", SHUFFLED.values(), ids=SHUFFLED.keys())
def test_a_loader_that_was_read_meanwhile_goes_on_as_if_it_had_not_been(make: Make) -> None:
    whole = read(make())
    loader, first = make(), len(whole) // 2
    broken_off = stream_of(loader)
    read_steps(broken_off, range(first))
    state = copy.deepcopy(broken_off.training.state_dict())
    for batch in loader:
        content_of({"payload": Payload.of(batch)})
    resumed = stream_of(loader)
    resumed.training.load_state_dict(state)
    assert read_steps(resumed, range(first, len(whole))) == whole[first:]


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


@pytest.mark.parametrize("make", [Lazy, lambda: DataLoader(Sprinkled(), batch_size=5)])
def test_ranks_read_the_same_epoch_of_a_loader_that_draws_on_the_way(make: Make) -> None:
    ranks = [read(make(), Share(rank, 2, 1)) for rank in range(2)]
    (alone,) = zip(*read(make()), strict=True)
    num_batches = len(alone) // NUM_EPOCHS
    for step, (batches) in enumerate(zip(*ranks, strict=True)):
        epoch, within = divmod(step, math.ceil(num_batches / 2))
        for rank, (batch,) in enumerate(batches):
            assert batch == alone[epoch * num_batches + min(2 * within + rank, num_batches - 1)]


def test_batches_keep_their_order_where_a_loader_would_give_them_as_they_are_ready() -> None:
    """Else nobody could say after a restart which of them were trained on."""
    loader = DataLoader(Slow(), batch_size=5, num_workers=2, in_order=False)
    assert read(loader) == plain(DataLoader(Counted(), batch_size=5))


class Opened(Counted):
    """Has something that each worker opens for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0.0

    def __getitem__(self, index: int) -> torch.Tensor:
        info = get_worker_info()
        assert info is not None
        assert info.dataset is self
        return super().__getitem__(index) + self.offset


def open_file(worker: int) -> None:
    dataset: Any = get_worker_info().dataset  # type: ignore[union-attr]
    assert isinstance(dataset, Opened)
    assert len(dataset) == 23
    dataset.offset = 100.0


def test_a_worker_begins_with_the_dataset_that_the_person_gave() -> None:
    loader = DataLoader(Opened(), batch_size=5, num_workers=1, worker_init_fn=open_file)
    assert read(loader)[0] == [[100.0, 101.0, 102.0, 103.0, 104.0]]


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


def read_epoch(stream: LoaderStream) -> None:
    read_steps(stream, range(stream.steps_per_epoch))
    list(stream.evaluation(0, 1, 1))


@pytest.mark.parametrize("name", ["train_loader", "val_loader"])
@pytest.mark.parametrize(
    ("given", "said"), [(4, "has 4 batches instead of 5 batches"), (6, "has more than 5 batches")]
)
def test_a_loader_that_does_not_give_what_its_length_says_is_named(given: int, said: str, name: str) -> None:
    loader: Any = Lazy(length=5, given=given)
    loaders = (Lazy(), loader) if name == "val_loader" else (loader, Lazy())
    stream = stream_of(loaders[0], validation=loaders[1])
    with pytest.raises(UserError, match=rf"epoch 1 of the Lazy {said}") as caught:
        read_epoch(stream)
    assert caught.value.where == name
    assert caught.value.fix


def test_a_validation_batch_that_is_nothing_is_still_a_batch() -> None:
    def nothing(samples: Any) -> None:
        return None

    stream = stream_of([DATASET[0:5]], validation=DataLoader(DATASET, 5, collate_fn=nothing))
    end, *batches = stream.evaluation(0, 1, 1)
    assert END_OF_EPOCH in end
    assert [batch["payload"].content for batch in batches] == [None] * 5
    assert all(END_OF_EPOCH not in batch for batch in batches)


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
