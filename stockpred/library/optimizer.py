"""A person's optimizer and scheduler, stepped by the core."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from hpc.base.errors import UserError
from stockpred.train.optim import NetworkOptimizer, Precision

Scheduler = LRScheduler | ReduceLROnPlateau
Interval = Literal["epoch", "step"]


@dataclass(frozen=True)
class Ramp:
    """Linear scaling of the learning rate with the joint batch, reached by a warm-up (Goyal et al. 2017).

    The factor rises from 1 to ``scale`` over ``num_steps``; with 0 steps it is ``scale`` at once.
    """

    scale: float
    num_steps: int

    def factor(self, step: int) -> float:
        """Return the factor of ``step``, which counts from 1."""
        if step >= self.num_steps:
            return self.scale
        if self.scale == 1.0:
            return step / self.num_steps
        return 1.0 + (self.scale - 1.0) * step / self.num_steps


class SuppliedOptimizer(NetworkOptimizer):
    """An optimizer of any class over one network: scaled backward, clipping, step, scheduler."""

    def __init__(
        self,
        optimizer: Optimizer,
        scheduler: Scheduler | None,
        *,
        interval: Interval,
        ramp: Ramp,
        gradient_clip: float | None,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.optimizer, self.scheduler, self.interval, self.ramp = optimizer, scheduler, interval, ramp
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.gradient_clip = math.inf if gradient_clip is None else gradient_clip
        self.num_steps = 0
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        # Casts what the person's optimizer may hold already to the device of its parameters.
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad(set_to_none=True)

    def begin_after(self, num_steps: int, scale: Mapping[str, Any] | None) -> None:
        """Go on after so many steps of the warm-up, with the scale of losses that there was then."""
        self.num_steps = num_steps
        if scale:
            self.scaler.load_state_dict(dict(scale))

    @property
    def lr(self) -> float:
        """The rate of the first group in the next step."""
        return float(self.optimizer.param_groups[0]["lr"]) * self.ramp.factor(self.num_steps + 1)

    def rate(self, step: int, total_steps: int) -> float:
        del step, total_steps
        return self.lr

    def apply(self, lr: float) -> Tensor:
        """Step with the gradients at hand; return their norm before clipping. The rate is the person's."""
        del lr
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)
        self.num_steps += 1
        with self._rates_times(self.ramp.factor(self.num_steps)):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.interval == "step":
            self._step_scheduler(None)
        return norm

    def end_epoch(self, loss: float) -> None:
        """Step a scheduler that goes by epochs; ``loss`` is what ``ReduceLROnPlateau`` looks at."""
        if self.interval == "epoch":
            self._step_scheduler(loss)

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "scaler": self.scaler.state_dict(),
            "num_steps": self.num_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler and state["scheduler"]:
            self.scheduler.load_state_dict(state["scheduler"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.num_steps = state["num_steps"]

    def _step_scheduler(self, loss: float | None) -> None:
        with warnings.catch_warnings():
            # A scheduler marks its optimizer, and the mark is lost on the way to another process.
            warnings.filterwarnings("ignore", message="Seems like `optimizer.step")
            if isinstance(self.scheduler, ReduceLROnPlateau):
                assert loss is not None
                self.scheduler.step(loss)
            elif self.scheduler is not None:
                self.scheduler.step()

    @contextmanager
    def _rates_times(self, factor: float) -> Iterator[None]:
        """Multiply the rates for one step: the scheduler keeps the person's own."""
        groups = self.optimizer.param_groups
        before = [group["lr"] for group in groups]
        if factor != 1.0:
            for group in groups:
                group["lr"] = group["lr"] * factor
        yield
        for group, lr in zip(groups, before, strict=True):
            group["lr"] = lr


def check_scheduling(scheduler: Scheduler | None, interval: Interval) -> None:
    """Raise UserError for an interval that there is not, or at which the scheduler has nothing to look at."""
    if interval not in get_args(Interval):
        raise UserError(
            f"there is no scheduler_interval {interval!r}",
            where="scheduler_interval",
            fix='use "epoch", or "step" for a scheduler that goes by optimizer steps',
        )
    if interval == "step" and isinstance(scheduler, ReduceLROnPlateau):
        raise UserError(
            "ReduceLROnPlateau looks at the loss of an epoch, and a single step has none",
            where="scheduler_interval",
            fix='use scheduler_interval="epoch"',
        )


def check_optimizer(optimizer: Optimizer, model: nn.Module) -> None:
    """Raise UserError unless the optimizer steps parameters of the model, and only these."""
    own = {id(parameter) for parameter in model.parameters()}
    stepped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    foreign = sum(key not in own for key in stepped)
    if foreign or not stepped:
        raise UserError(
            f"{foreign} of the optimizer's {len(stepped)} parameters are not the model's",
            where="optimizer",
            fix="make it after the model, of model.parameters()",
        )
