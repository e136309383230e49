"""One network's optimizer: AdamW, warm-up and cosine, clipping, loss scaling."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from hpc.base.errors import UserError, raise_all
from hpc.base.text import suggestion
from stockpred.config.base import TrainingConfig

Precision = Literal["bf16", "fp16", "fp32"]
AUTOCAST_TYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Resolve ``auto``: bf16 on a CUDA GPU that computes in it, fp16 on an older one, else fp32.

    Raises UserError for fp16 on MPS: torch's scaler of losses needs float64, which MPS does not have.
    """
    if wanted == "fp16" and device.type == "mps":
        raise UserError(
            "training.precision is fp16, which needs float64 for its loss scale, and MPS has no float64",
            where="training.precision",
            fix="set training.precision=fp32, or auto",
        )
    if wanted == "auto" and device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if wanted == "auto":
        return "fp32"
    return cast(Precision, wanted)


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass."""
    dtype = AUTOCAST_TYPES.get(precision)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def learning_rate(step: int, total_steps: int, settings: TrainingConfig) -> float:
    """Return the rate of ``step`` (from 1): linear warm-up to ``lr``, then a cosine to its minimum."""
    num_warmup = round(settings.warmup_fraction * total_steps)
    if step <= num_warmup:
        return settings.lr * step / num_warmup
    progress = (step - num_warmup) / max(1, total_steps - num_warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return settings.lr * (settings.min_lr_fraction + (1.0 - settings.min_lr_fraction) * cosine)


def settings_of(settings: TrainingConfig, network: str) -> TrainingConfig:
    """Return the settings with what ``training.optimizers`` says of one network in place of the shared."""
    own = settings.optimizers.get(network)
    return settings if own is None else settings.model_copy(update=own.model_dump(exclude_none=True))


def refuse_unknown_networks(settings: TrainingConfig, networks: Collection[str]) -> None:
    """Raise UserError where ``training.optimizers`` names a network that the learner has not."""
    raise_all(
        [
            UserError(
                f"the learner has no network {name!r}",
                where=f"training.optimizers.{name}",
                fix=suggestion(name, networks),
            )
            for name in settings.optimizers
            if name not in networks
        ]
    )


class NetworkOptimizer:
    """AdamW over one network; weight decay acts on matrices only, never on biases, gains or scalars."""

    def __init__(
        self, network: nn.Module, settings: TrainingConfig, precision: Precision, device: torch.device
    ) -> None:
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.settings = settings
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": [p for p in self.parameters if p.ndim >= 2],
                    "weight_decay": settings.weight_decay,
                },
                {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            fused=device.type == "cuda",
        )
        # One scaler per network: it may be updated several times in a step, and each may overflow by itself.
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def apply(self, lr: float) -> Tensor:
        """Clip and step with the gradients at hand; return their norm before clipping, on the device."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return norm

    def is_overflow_skipped(self) -> bool:
        """Say whether a non-finite gradient is an expected event here: fp16 skips that update."""
        return bool(self.scaler.is_enabled())

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
