"""Which errors are explained, and in whose words: a person's own errors reach them as they are."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from hpc.base import records
from hpc.base.errors import UserError
from hpc.run.jobenv import JobEnv
from stockpred import DistributedConfig, DistributedTrainer
from stockpred.library import explaining
from stockpred.library.explaining import explained
from stockpred.train.distributed import Group, LostContact
from tests.stockpred.library.scripts import Line, new_model

TRAIN = Path(explaining.__file__).parents[1] / "train"
NO_SETTINGS_HERE = {"training.optimizers", "training.selection", "training.tensorboard"}
"""What the library leaves as it is, so that the core never speaks of it."""


def group(world_size: int) -> Group:
    env = JobEnv.read({"RANK": "0", "WORLD_SIZE": str(world_size)})
    return Group(env, torch.device("cpu"))


class Failing(Line):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def __getitem__(self, index: int) -> Any:
        raise self.error


def train(folder: Path, dataset: Any, criterion: Any = None, batch_size: int = 10) -> None:
    model = new_model()
    trainer = DistributedTrainer(model, DistributedConfig(use_distributed=False, checkpoint_dir=folder))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer.train(DataLoader(dataset, batch_size), optimizer, criterion or nn.MSELoss(), 2)


class UnidentifiedImageError(OSError):
    """PIL's error for a file that is no image."""


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/image_7.png"),
        UnidentifiedImageError("cannot identify image file '/data/image_7.png'"),
        TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
        PermissionError(errno.EACCES, "Permission denied", "/data/image_7.png"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("NCCL: the broken pipe of this socket is the dataset's own"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("world_size", [1, 2])
def test_an_error_of_a_dataset_is_raised_as_it_is(tmp_path: Path, error: Exception, world_size: int) -> None:
    with pytest.raises(type(error)) as caught, explained(tmp_path, group(world_size)):
        Failing(error)[0]
    assert caught.value is error


def test_the_trainer_raises_the_error_of_a_dataset_as_it_is(tmp_path: Path) -> None:
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/image_7.png")
    with pytest.raises(FileNotFoundError) as caught:
        train(tmp_path, Failing(error))
    assert caught.value is error


def test_a_write_of_ours_that_the_disk_refuses_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left") as full, explained(tmp_path, group(1)):
        records.append_row(Path("/dev/full"), {"step": 1})  # a write to an open file does not know its name
    assert full.value.where == str(tmp_path)
    refused = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "metrics.jsonl"))
    with pytest.raises(UserError, match="Permission denied") as caught, explained(tmp_path, group(1)):
        raise refused
    assert caught.value.where == str(tmp_path / "metrics.jsonl")


def raise_as_torch(said: str) -> None:
    source = "def fail(error): raise error"
    module: dict[str, Any] = {"__name__": "torch.distributed.distributed_c10d"}
    exec(compile(source, "distributed_c10d.py", "exec"), module)
    module["fail"](dist.DistBackendError(said))


def test_a_lost_rank_is_told_without_a_log_that_nobody_writes(tmp_path: Path) -> None:
    with pytest.raises(LostContact, match="lost contact") as caught, explained(tmp_path, group(2)):
        raise_as_torch("gloo: connection closed by peer")
    assert caught.value.where is None
    with pytest.raises(dist.DistBackendError), explained(tmp_path, group(1)):
        raise_as_torch("gloo: connection closed by peer")


def test_a_loss_that_is_not_finite_is_told_with_the_arguments_of_the_library(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite") as caught:
        train(tmp_path, Line(), lambda output, _: output.mean() * torch.nan)
    assert "the optimizer's lr" in str(caught.value.fix)
    assert "training." not in str(caught.value)


def test_another_accumulation_is_refused_without_a_file_that_there_is_not(tmp_path: Path) -> None:
    train(tmp_path, Line())
    model = new_model()
    config = DistributedConfig(use_distributed=False, checkpoint_dir=tmp_path, gradient_accumulation_steps=5)
    with pytest.raises(UserError, match="steps have 1 samples, now they would have 5") as caught:
        DistributedTrainer(model, config).train(
            DataLoader(Line(), 10), torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss(), 3
        )
    assert caught.value.where == "DistributedConfig"
    assert "gradient_accumulation_steps" in str(caught.value.fix)


def test_every_setting_that_the_core_names_has_a_name_in_the_library() -> None:
    names = re.compile(r"\b(?:training|resources)\.[a-z_]+")
    for path in TRAIN.glob("*.py"):
        for name in names.findall(path.read_text()):
            if name not in NO_SETTINGS_HERE:
                assert explaining.in_our_words(UserError(name)).what != name, (path.name, name)
