"""The rehearsal before a phase leaves nothing behind, and buffers that a forward changes are shared."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest
import torch
import toy_core
from torch import Tensor, nn

from hpc.run.jobenv import JobEnv
from stockpred.config.base import TrainingConfig
from stockpred.train.core import prepare
from stockpred.train.distributed import Group
from stockpred.train.learner import Batch, Direction, Evaluation, Learner, Networks, Update
from stockpred.train.updater import Updater


class Averaging(nn.Module):
    """Keeps means of its inputs in buffers, each in another of the ways in which people write that."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(2, 1)
        self.register_buffer("assigned", torch.zeros(2))
        self.register_buffer("in_place", torch.zeros(2))
        self.register_buffer("both", torch.zeros(2))
        self.register_buffer("unsaved", torch.zeros(2), persistent=False)
        self.register_buffer("late", None)
        self.register_buffer("constant", torch.ones(2))
        self.norm = nn.BatchNorm1d(2)

    def forward(self, inputs_BF: Tensor) -> Tensor:
        mean_F = inputs_BF.detach().mean(0)
        self.assigned = 0.9 * self.assigned + 0.1 * mean_F
        self.in_place.mul_(0.9).add_(0.1 * mean_F)
        self.both.add_(mean_F)
        self.both = self.both + mean_F
        self.unsaved = self.unsaved + mean_F
        self.late = mean_F
        outputs: Tensor = self.out(self.norm(inputs_BF.sub_(mean_F) * 3 + 1))
        return outputs


class Plain(Learner):
    """Learns to give zero; its only network alters its inputs in place."""

    metrics: Mapping[str, Direction] = {"unmeasured": "min"}

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.networks = {"model": Averaging()}

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        yield "model", networks.synced("model")(batch["inputs"]).square().mean()

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        return Evaluation()


@dataclass(frozen=True)
class Listening(Group):
    """A rank that notes what it is told to take from rank 0, by the place in memory."""

    heard: list[int] = field(default_factory=list)

    def broadcast(self, tensor: Tensor) -> None:
        self.heard.append(tensor.data_ptr())


@pytest.fixture
def group() -> Listening:
    return Listening(JobEnv.read({}), torch.device("cpu"))


@pytest.fixture
def updater(group: Listening) -> Updater:
    return prepare(Plain(), group, TrainingConfig.model_validate(toy_core.SETTINGS))[0]


def batch_of() -> Batch:
    inputs = torch.randn(4, 2, generator=torch.Generator().manual_seed(3))
    return {"inputs": inputs, "loss_weight": torch.tensor(4.0)}


def test_the_rehearsal_puts_every_buffer_back_however_it_was_changed(updater: Updater) -> None:
    network = updater.learner.networks["model"]
    before = buffers_of(network)
    contents = copy.deepcopy(before)

    updater.warm_up_ddp(1, batch_of())

    for name, buffer in buffers_of(network).items():
        assert buffer is before[name], name
        assert buffer is None or torch.equal(buffer, contents[name]), name


def buffers_of(network: nn.Module) -> dict[str, Tensor | None]:
    """Return all buffers by name, also one that is None as yet."""
    return {
        f"{where}.{name}": buffer
        for where, module in network.named_modules()
        for name, buffer in module._buffers.items()
    }


def test_a_step_after_the_rehearsal_is_the_step_without_it(group: Listening) -> None:
    """What a resume does once more than a run without one must not show."""
    found = []
    for is_rehearsed in (False, True):
        updater = prepare(Plain(), group, TrainingConfig.model_validate(toy_core.SETTINGS))[0]
        batch = batch_of()
        if is_rehearsed:
            updater.warm_up_ddp(1, batch)
        loss = updater.run(1, [batch], {"model": 0.1})["model"]
        found.append((float(loss), updater.learner.networks["model"].state_dict()))
    (first, own), (second, other) = found
    assert first == second
    assert own.keys() == other.keys()
    for name, tensor in own.items():
        assert torch.equal(tensor, other[name]), name


def test_the_rehearsal_leaves_its_batch_as_it_is(updater: Updater) -> None:
    batch = batch_of()
    updater.warm_up_ddp(1, batch)
    assert torch.equal(batch["inputs"], batch_of()["inputs"])


def test_after_a_step_the_buffers_that_a_forward_changes_are_rank_0s(
    updater: Updater, group: Listening
) -> None:
    network = updater.learner.networks["model"]
    updater.warm_up_ddp(1, batch_of())
    for step in (1, 2):
        group.heard.clear()
        updater.run(step, [batch_of()], {"model": 0.1})
        changing = [buffer for name, buffer in buffers_of(network).items() if name != ".constant"]
        assert sorted(group.heard) == sorted(buffer.data_ptr() for buffer in changing if buffer is not None)


def test_a_buffer_broadcast_before_each_forward_would_break_a_loss_of_two_forwards() -> None:
    """Why DDP's own is switched off: what it does in place, autograd does not forgive."""
    network = nn.BatchNorm1d(2)
    first = network(torch.randn(4, 2))
    assert network.running_var is not None
    network.running_var.copy_(network.running_var.clone())
    second = network(torch.randn(4, 2))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (first + second).sum().backward()
