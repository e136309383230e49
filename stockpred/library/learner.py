"""A person's model and loss as a learner of the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hpc.base.errors import UserError
from stockpred.config.base import TrainingConfig
from stockpred.library.batches import END_OF_EPOCH, LOSS_WEIGHT, PAYLOAD, Payload
from stockpred.library.epochs import EpochEnd
from stockpred.library.optimizer import SuppliedOptimizer
from stockpred.library.wrappers import unwrapped
from stockpred.train.buffers import RememberedBuffers
from stockpred.train.learner import Batch, Direction, Evaluation, Learner, Networks
from stockpred.train.optim import Precision

Criterion = Callable[[Any, Any], Tensor]
LOSS = "loss"
TRAIN_LOSS, VAL_LOSS = "train_loss", "val_loss"


class SuppliedModel(Learner):
    """One network, ``model``, whose loss is a criterion's, or its own where there is no criterion.

    With a criterion the loader gives (inputs, targets) and the loss is ``criterion(model(inputs), targets)``.
    Without one, ``model(batch)`` gives ``{'loss': ...}``. Either is a mean over the samples of the batch.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion | None,
        optimizer: Callable[[Precision, torch.device], SuppliedOptimizer],
        epoch_end: EpochEnd,
        *,
        first_step: int,
        is_validated: bool,
    ) -> None:
        self.first_step = first_step
        self.networks: dict[str, nn.Module] = {"model": unwrapped(model)}
        is_wrapped = isinstance(model, DataParallel | DistributedDataParallel)
        self.wrappers = {"model": model} if is_wrapped else {}
        self.criterion = criterion
        self.new_optimizer = optimizer
        self.epoch_end = epoch_end
        names = (VAL_LOSS, TRAIN_LOSS) if is_validated else (TRAIN_LOSS,)
        self.metrics: Mapping[str, Direction] = dict.fromkeys(names, "min")
        self.losses: dict[int, Tensor] = {}
        """By part: the sum of its samples' losses since the last evaluation, and their number."""
        self.kept_buffers: RememberedBuffers | None = None
        """In a step with batches that do not count: each buffer, and its content before them."""

    def make_optimizer(
        self, name: str, settings: TrainingConfig, precision: Precision, device: torch.device
    ) -> SuppliedOptimizer:
        del name, settings
        if isinstance(self.criterion, nn.Module):
            self.criterion.to(device)  # class weights and their like
        self.optimizer = self.new_optimizer(precision, device)
        return self.optimizer

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[tuple[str, Tensor]]:
        del step
        payload = _payload(batch)
        if not payload.counts:
            self._keep_buffers()
        loss = self._loss(networks.synced("model"), payload, "train_loader")
        if payload.counts:
            self._remember(payload, loss.detach())
        yield "model", loss * batch[LOSS_WEIGHT]

    def after_step(self, step: int) -> None:
        """Put back the buffers, such as running means, that batches which do not count have moved."""
        del step
        if self.kept_buffers is not None:
            self.kept_buffers.restore()
        self.kept_buffers = None

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        """Return a validation batch's loss, or at the end of an epoch the loss of its training."""
        if END_OF_EPOCH in batch:
            return self._training_loss()
        payload = _payload(batch)
        loss = self._loss(networks.local("model"), payload, "val_loader")
        total, num_samples = _summed(loss, payload)
        return Evaluation({VAL_LOSS: (total, num_samples)})

    def after_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        self.losses.clear()
        self.epoch_end(step, metrics, self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        return self.epoch_end.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch_end.load_state_dict(state)

    def part_state(self, part: int) -> Any:
        return self.losses.get(part)

    def load_part_state(self, part: int, state: Any) -> None:
        self.losses.pop(part, None)
        if state is not None:
            self.losses[part] = state

    def _remember(self, payload: Payload, loss: Tensor) -> None:
        """Add up without waiting for the device."""
        new = _summed(loss, payload)
        before = self.losses.get(payload.part)
        self.losses[payload.part] = new if before is None else before.to(new.device) + new

    def _training_loss(self) -> Evaluation:
        if not self.losses:
            return Evaluation()
        # A part that a resume has brought, and that had no batch since, is still on the CPU.
        total, num_samples = torch.stack([self.losses[part].cpu() for part in sorted(self.losses)]).sum(0)
        return Evaluation({TRAIN_LOSS: (total, num_samples)})

    def _keep_buffers(self) -> None:
        """Remember the buffers as the batches that count have left them; they come before all others."""
        if self.kept_buffers is None:
            self.kept_buffers = RememberedBuffers([self.networks["model"]])

    def _loss(self, model: nn.Module, payload: Payload, loader: str) -> Tensor:
        if self.criterion is None:
            return _own_loss(model(payload.content))
        inputs, targets = _pair(payload.content, loader)
        return _scalar(self.criterion(model(inputs), targets))


def _payload(batch: Batch) -> Payload:
    payload: Any = batch[PAYLOAD]
    assert isinstance(payload, Payload)
    return payload


def _summed(loss: Tensor, payload: Payload) -> Tensor:
    """Return the sum of the samples' losses and their number, in numbers that hold both exactly enough."""
    kind = torch.float32 if loss.device.type == "mps" else torch.float64
    number = torch.full_like(loss, payload.num_samples, dtype=kind)
    return torch.stack([loss.to(kind) * number, number])


def _pair(content: Any, loader: str) -> tuple[Any, Any]:
    if isinstance(content, tuple | list) and len(content) == 2:
        return content[0], content[1]
    found = f"{len(content)} values" if isinstance(content, tuple | list) else f"a {type(content).__name__}"
    raise UserError(
        f"the loader gives {found}, and a criterion needs two: (inputs, targets)",
        where=loader,
        fix="let the dataset return (inputs, targets), or leave criterion out and let model(batch) give "
        "{'loss': ...}",
    )


def _own_loss(output: Any) -> Tensor:
    loss = output.get(LOSS) if isinstance(output, Mapping) else getattr(output, LOSS, None)
    if isinstance(loss, Tensor):
        return _scalar(loss)
    raise UserError(
        f"model(batch) gives a {type(output).__name__} without a loss",
        where="model",
        fix="give a criterion, or return {'loss': ...} from forward",
    )


def _scalar(loss: Tensor) -> Tensor:
    """Return one number; ``DataParallel`` gives one per GPU, a criterion may give one per sample."""
    return loss if loss.ndim == 0 else loss.mean()
