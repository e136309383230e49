"""What a person's model learns from, and what is measured: each batch once, each sample alike."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hpc.base.errors import UserError
from stockpred import DistributedConfig, DistributedTrainer, Trainer
from stockpred.library.batches import END_OF_EPOCH, LOSS_WEIGHT, PAYLOAD, Payload
from stockpred.library.learner import SuppliedModel
from stockpred.train.learner import Networks
from tests.stockpred.library.compare import assert_identical
from tests.stockpred.library.scripts import Line


class Centered(nn.Module):
    """Keeps a running mean of what it is given, and counts."""

    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.lerp_(inputs.mean(0), 0.1)
            self.count += 1
        return inputs - self.mean


def running_model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(Centered(), nn.Linear(4, 1))


def new_learner(model: nn.Module, epoch_end: Any = None) -> SuppliedModel:
    unused: Any = None
    learner = SuppliedModel(model, nn.MSELoss(), unused, epoch_end, first_step=0, is_validated=False)
    learner.optimizer = unused
    return learner


def train(model: nn.Module, batches: Any, num_epochs: int, **settings: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trainer = DistributedTrainer(model, DistributedConfig(backend="gloo", **settings))
    trainer.train(batches, optimizer, nn.MSELoss(), num_epochs)


def test_a_batch_that_fills_up_the_last_step_moves_no_running_mean() -> None:
    """Five batches, four to a step: the last three parts of the second step have none."""
    ours, theirs = running_model(), running_model()
    train(ours, DataLoader(Line(), 10), 2, use_distributed=False, gradient_accumulation_steps=4)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.01)
    batches = list(DataLoader(Line(), 10))
    for step in 2 * [batches[:4], batches[4:]]:
        for inputs, targets in step:
            (nn.functional.mse_loss(theirs(inputs), targets) / len(step)).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert_identical(ours.state_dict(), theirs.state_dict())


def test_batch_normalization_does_not_see_what_fills_up_a_step() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))
    learner, networks = new_learner(model), Networks({"model": model}, {"model": model})
    payload = Payload.of((Line().inputs, Line().targets))

    def update(*, counts: bool) -> None:
        batch: Any = {PAYLOAD: replace(payload, counts=counts), LOSS_WEIGHT: torch.tensor(float(counts))}
        for _, loss in learner.updates(batch, networks, 0):
            loss.backward()  # type: ignore[no-untyped-call]

    update(counts=True)
    expected = copy.deepcopy(model.state_dict())
    update(counts=False)
    update(counts=False)
    learner.after_step(0)
    assert_identical(model.state_dict(), expected)


def test_ranks_without_a_batch_agree_on_the_running_means() -> None:
    """With one batch the second of two ranks only fills up, from its warm-up on."""
    model = running_model()
    train(model, DataLoader(Line(), 50), 3, gpus_per_node=2)
    assert int(model.get_buffer("0.count")) == 3


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_losses_in_short_numbers_add_up_in_long_ones(kind: torch.dtype) -> None:
    """3008 has few bits, 50 x 3008 is beyond fp16, and bf16 has no 50 x 3008 + 1."""

    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        return (0.0 * outputs.mean() + (3008.0 if len(targets) == 49 else 1.0)).to(kind)

    model = nn.Linear(4, 1)
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), criterion, device="cpu")
    history = trainer.train(DataLoader(Line(), 49), DataLoader(Line(), 49), epochs=1)
    expected = (49 * 3008 + 1) / 50
    assert history["val_loss"] == history["train_loss"] == [expected]


def test_what_is_wrong_with_the_validation_loader_is_said_of_it() -> None:
    model = nn.Linear(4, 1)
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss(), device="cpu")
    with pytest.raises(UserError, match="the loader gives a Tensor") as caught:
        trainer.train(DataLoader(Line(), 10), [torch.zeros(3, 4)], epochs=1)
    assert caught.value.where == "val_loader"


def test_the_training_loss_can_be_asked_for_again_until_the_epoch_is_closed() -> None:
    model = nn.Linear(4, 1)
    closed: list[int] = []
    learner = new_learner(model, lambda step, *_: closed.append(step))
    networks = Networks({"model": model}, {"model": model})
    pair = Line().inputs, Line().targets
    batch: Any = {PAYLOAD: Payload.of(pair), LOSS_WEIGHT: torch.tensor(1.0)}
    ((_, loss),) = learner.updates(batch, networks, 0)
    end = {END_OF_EPOCH: torch.tensor(True)}
    for _ in range(2):
        total, number = learner.evaluate(end, networks).sums["train_loss"]
        assert float(total / number) == pytest.approx(loss.item(), rel=1e-6)
    learner.after_evaluation(1, {})
    assert not learner.evaluate(end, networks).sums
    assert closed == [1]


def test_a_batch_that_is_nothing_reaches_the_model() -> None:
    class Alone(nn.Module):
        """Makes its loss of nothing but itself."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0))
            self.given: list[Any] = []

        def forward(self, batch: Any) -> dict[str, Tensor]:
            self.given.append(batch)
            return {"loss": self.weight**2}

    model = Alone()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.0), device="cpu")
    history = trainer.train([None], [None], epochs=1)
    assert history["val_loss"] == [4.0]
    assert set(model.given) == {None}
