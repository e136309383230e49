"""Batches made ahead: the same numbers, errors where they belong, no thread left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy_core

from hpc.run.attempt import Attempt
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from stockpred.config.base import TrainingConfig
from stockpred.train import checkpoint, core, distributed
from stockpred.train.learner import Batch
from stockpred.train.prefetch import Prefetch


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert workers() == []


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_each_step_has_its_own_value_in_any_order(num_workers: int) -> None:
    with Prefetch(lambda step: step * step, num_workers=num_workers, end=50) as ahead:
        assert [ahead[step] for step in (4, 4, *range(50), 7, 60)] == [
            step * step for step in (4, 4, *range(50), 7, 60)
        ]


def test_values_are_ready_before_they_are_asked_for() -> None:
    made: list[int] = []
    is_third = threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if step == 3:
            is_third.set()
        return step

    with Prefetch(make, num_workers=3, end=50) as ahead:
        assert ahead[0] == 0
        assert is_third.wait(10)
    assert sorted(made) == [0, 1, 2, 3]


def test_nothing_is_made_beyond_the_end() -> None:
    made: list[int] = []
    with Prefetch(made.append, num_workers=8, end=3) as ahead:
        for step in range(3):
            ahead[step]
    assert sorted(made) == [0, 1, 2]


def test_an_error_is_raised_at_its_own_step() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("bar 2 is gone")
        return step

    with Prefetch(make, num_workers=3, end=9) as ahead:
        assert [ahead[0], ahead[1]] == [0, 1]
        with pytest.raises(ValueError, match="bar 2 is gone"):
            ahead[2]


def test_an_error_in_training_does_not_wait_for_all_that_was_asked_for() -> None:
    made = list[int]()

    def make(step: int) -> int:
        time.sleep(0.2)
        made.append(step)
        return step

    def use() -> None:
        with Prefetch(make, num_workers=3, end=1000) as ahead:
            ahead[0]
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert max(made) <= 3


class Broken(toy_core.ToyStream):
    """A stream whose tenth step cannot be read."""

    def batch(self, step: int, part: int, num_parts: int, part_size: int) -> Batch:
        if step == 9:
            raise OSError(5, "Input/output error")
        return super().batch(step, part, num_parts, part_size)


def train(root: Path, stream: toy_core.ToyStream, num_workers: int) -> RunPaths:
    root.mkdir()
    paths, env = RunPaths(root), JobEnv.read({})
    settings = TrainingConfig.model_validate(
        toy_core.SETTINGS | {"num_workers": num_workers, "accumulate": 2}
    )
    with distributed.joined(env, paths, settings) as group:
        core.train(
            learner=toy_core.ToyGan(toy_core.Options()),
            stream=stream,
            settings=settings,
            group=group,
            attempt=Attempt.join(paths, env),
        )
    return paths


def test_workers_change_no_bit_of_a_training(tmp_path: Path) -> None:
    alone = train(tmp_path / "alone", toy_core.ToyStream(150), num_workers=0)
    ahead = train(tmp_path / "ahead", toy_core.ToyStream(150), num_workers=3)
    assert alone.metrics.read_bytes() == ahead.metrics.read_bytes()
    own, other = (checkpoint.find_newest(paths.checkpoints) for paths in (alone, ahead))
    assert own.step == other.step > 20
    for stem in ("networks", "optimizers"):
        assert own.directory is not None
        assert other.directory is not None
        assert (own.directory / f"{stem}.pt").read_bytes() == (other.directory / f"{stem}.pt").read_bytes()


@pytest.mark.parametrize("num_workers", [0, 3])
def test_a_batch_that_cannot_be_read_ends_the_training(tmp_path: Path, num_workers: int) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        train(tmp_path / "run", Broken(150), num_workers)
