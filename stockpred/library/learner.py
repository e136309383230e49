"""A person's model and loss as a learner of the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hpc.base.errors import UserError
from stockpred.library.batches import Payload
from stockpred.library.wrappers import unwrapped
from stockpred.train.learner import Batch, Metrics, Networks

Criterion = Callable[[Any, Any], Tensor]
LOSS = "loss"


class SuppliedModel:
    """One network, ``model``, whose loss is a criterion's, or its own where there is no criterion.

    With a criterion the loader gives (inputs, targets) and the loss is ``criterion(model(inputs), targets)``.
    Without one, ``model(batch)`` gives ``{'loss': ...}``. Either is a mean over the samples of the batch.
    """

    def __init__(self, model: nn.Module, criterion: Criterion | None) -> None:
        self.networks: dict[str, nn.Module] = {"model": unwrapped(model)}
        self.wrappers: dict[str, nn.Module] = (
            {"model": model} if isinstance(model, DataParallel | DistributedDataParallel) else {}
        )
        self.criterion = criterion

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[tuple[str, Tensor]]:
        del step
        loss = self._loss(networks.synced("model"), batch)
        yield "model", loss * batch["loss_weight"]

    def evaluate(self, batch: Batch, networks: Networks) -> Metrics:
        """Return ``loss``, the mean over the validation samples."""
        payload: Any = batch["payload"]
        loss = self._loss(networks.local("model"), batch)
        num_samples = torch.full_like(loss, payload.num_samples)
        return {LOSS: (loss * num_samples, num_samples)}

    def to(self, device: torch.device) -> None:
        """Bring what the criterion holds, such as class weights, to the device."""
        if isinstance(self.criterion, nn.Module):
            self.criterion.to(device)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state

    def _loss(self, model: nn.Module, batch: Batch) -> Tensor:
        payload: Payload = batch["payload"]  # type: ignore[assignment]
        if self.criterion is None:
            return _own_loss(model(payload.content))
        inputs, targets = _pair(payload.content)
        return _scalar(self.criterion(model(inputs), targets))


def _pair(content: Any) -> tuple[Any, Any]:
    if isinstance(content, tuple | list) and len(content) == 2:
        return content[0], content[1]
    found = f"{len(content)} values" if isinstance(content, tuple | list) else f"a {type(content).__name__}"
    raise UserError(
        f"the loader gives {found}, and a criterion needs two: (inputs, targets)",
        where="train_loader",
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
    """Return one number; several come from the GPUs of ``DataParallel``, or from a criterion without a mean."""
    return loss if loss.ndim == 0 else loss.mean()
