"""Settings that cannot be are refused by their name, before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from hpc.base.errors import UserError
from stockpred import DistributedConfig, Trainer
from tests.stockpred.library.scripts import Line, new_model


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gradient_clip", 0),
        ("gradient_clip", -1.0),
        ("gradient_clip", float("nan")),
        ("timeout_s", 0),
        ("timeout_s", None),
        ("checkpoint_every_s", -1),
        ("warmup_epochs", -0.5),
        ("gradient_accumulation_steps", 0),
        ("gradient_accumulation_steps", 1.5),
        ("save_frequency", None),
        ("gpus_per_node", "2"),
        ("seed", "0"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^DistributedConfig.{name}: {name} is ") as caught:
        DistributedConfig(**{name: value})
    assert str(caught.value.fix).startswith("give ")


def test_numbers_of_numpy_and_no_limit_are_taken() -> None:
    config = DistributedConfig(gradient_accumulation_steps=np.int64(2), gradient_clip=np.float64(0.5))  # type: ignore[arg-type]
    assert config.training(1, is_validated=False).accumulate == 2
    assert DistributedConfig(gradient_clip=None, gpus_per_node=None).gradient_clip is None


def plateau(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)


@pytest.mark.parametrize(
    ("scheduler", "wrong", "said"),
    [
        (None, {"scheduler_interval": "batch"}, "there is no scheduler_interval 'batch'"),
        (plateau, {"scheduler_interval": "step"}, "ReduceLROnPlateau looks at the loss of an epoch"),
        (None, {"epochs": 0}, "epochs\\) is 0"),
        (None, {"epochs": 1.5}, "epochs\\) is 1.5"),
    ],
)
def test_how_to_train_is_checked_before_any_rank_starts(scheduler: Any, wrong: Any, said: str) -> None:
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(
        model, optimizer, nn.MSELoss(), device="cpu", scheduler=scheduler and scheduler(optimizer)
    )
    with pytest.raises(UserError, match=said) as caught:
        trainer.train(DataLoader(Line(), 10), **wrong)
    assert caught.value.fix
