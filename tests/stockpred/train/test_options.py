"""Options of the core: scaled learning rates, recomputed activations, data parallel, a full memory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_core
from pydantic import ValidationError
from torch import nn

from hpc.base.errors import UserError
from hpc.run.jobenv import JobEnv
from stockpred.config.base import TrainingConfig
from stockpred.train.distributed import Group
from stockpred.train.failures import explained
from stockpred.train.optim import learning_rate, scaled, settings_of
from stockpred.train.recompute import recompute_activations
from stockpred.train.updater import wrap


def settings(**changes: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(toy_core.SETTINGS | changes)


def group_of(world_size: int) -> Group:
    env = JobEnv.read({"RANK": "0", "WORLD_SIZE": str(world_size)})
    return Group(env, torch.device("cpu"))


def test_learning_rates_grow_with_the_joint_batch_and_are_reached_by_the_warm_up() -> None:
    """A joint batch of 64 where the rate was found with 16: four times the rate, for every network."""
    own = {"critic": {"lr": 0.001}}
    found = scaled(settings(lr=0.01, lr_batch=16, warmup_fraction=0.5, optimizers=own), 64)
    assert learning_rate(5, 10, found) == pytest.approx(0.04)
    assert learning_rate(1, 10, found) == pytest.approx(0.04 / 5)
    assert settings_of(found, "critic").lr == pytest.approx(0.004)
    assert scaled(settings(), 64) == settings()


def test_a_scaled_rate_without_a_warm_up_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs a warm-up"):
        settings(lr_batch=16, warmup_fraction=0.0)


def networks() -> list[nn.Module]:
    torch.manual_seed(2)
    return [
        nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1)),
        nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(4, 4)])})["blocks"][0],
    ]


@pytest.mark.parametrize("network", networks(), ids=["blocks", "one block"])
def test_recomputed_activations_give_the_same_gradients(network: nn.Module) -> None:
    other = copy.deepcopy(network)
    recompute_activations(other)
    assert other.state_dict().keys() == network.state_dict().keys()
    inputs = torch.randn(5, 4)
    gradients = []
    for module in (network, other):
        torch.manual_seed(7)
        module(inputs).square().sum().backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*gradients, strict=True))


def test_recomputed_activations_are_not_kept() -> None:
    """The forward pass of a block runs once more in the backward pass."""
    calls = []

    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 4)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return torch.tanh(self.body(inputs))

    network = nn.Sequential(nn.Sequential(Counted(), Counted()))
    recompute_activations(network)
    network(torch.randn(3, 4)).sum().backward()
    assert len(calls) == 4
    with torch.no_grad():
        network(torch.randn(3, 4))
    assert len(calls) == 6


def test_data_parallel_is_one_process() -> None:
    network = nn.Linear(2, 2)
    assert wrap(network, group_of(1), settings(parallel="data_parallel")) is network
    with pytest.raises(UserError, match="there are 2 ranks") as caught:
        wrap(network, group_of(2), settings(parallel="data_parallel"))
    assert "training.parallel=ddp" in str(caught.value.fix)


def test_a_full_memory_is_told_with_what_to_lower() -> None:
    problem = explained(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), Path())
    assert problem is not None
    for word in ("training.batch_size", "training.accumulate", "training.gradient_checkpointing"):
        assert word in str(problem.fix)
