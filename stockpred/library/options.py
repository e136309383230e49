"""How to train with several processes: one frozen value, checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, get_args

from hpc.base.errors import UserError, raise_all
from hpc.base.text import suggestion
from stockpred.config.base import TrainingConfig

Backend = Literal["auto", "nccl", "gloo"]
Compression = Literal["none", "bf16", "powersgd"]
Parallel = Literal["ddp", "data_parallel"]
NcclDebug = Literal["VERSION", "WARN", "INFO", "TRACE"]


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and int(value) >= 1


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


Numbers = tuple[Callable[[Any], bool], str]
COUNT: Numbers = (_is_count, "a whole number from 1")
FROM_0: Numbers = (lambda value: _is_finite(value) and value >= 0, "a number from 0")
POSITIVE: Numbers = (lambda value: _is_finite(value) and value > 0, "a positive number")
NUMBERS: dict[str, Numbers] = {
    "gradient_accumulation_steps": COUNT,
    "num_nodes": COUNT,
    "gpus_per_node": COUNT,
    "save_frequency": COUNT,
    "keep_n_checkpoints": COUNT,
    "checkpoint_every_s": FROM_0,
    "warmup_epochs": FROM_0,
    "gradient_clip": POSITIVE,
    "timeout_s": POSITIVE,
    "seed": (lambda value: isinstance(value, Integral), "a whole number"),
}
OR_NONE = {"gpus_per_node": "None for all visible GPUs", "gradient_clip": "None for no clipping"}


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """What ``DistributedTrainer`` and ``launch_distributed_training`` do (docs/library.md has a table).

    ``gpus_per_node`` counts processes: one for each GPU, on a CPU as many as are asked for; None takes the
    visible GPUs. ``save_frequency`` counts epochs. ``checkpoint_every_s`` is for the checkpoints within an
    epoch. With ``checkpoint_dir=None`` nothing is kept. Raises UserError for values that cannot be.
    """

    use_distributed: bool = True
    backend: Backend = "auto"
    use_mixed_precision: bool = False
    gradient_accumulation_steps: int = 1
    num_nodes: int = 1
    gpus_per_node: int | None = None
    checkpoint_dir: str | Path | None = None
    save_frequency: int = 1
    keep_n_checkpoints: int = 3
    checkpoint_every_s: float = 600.0
    device: str | int = "auto"
    seed: int = 0
    gradient_clip: float | None = None
    gradient_checkpointing: bool = False
    gradient_compression: Compression = "none"
    parallel: Parallel = "ddp"
    scale_learning_rate: bool = False
    warmup_epochs: float = 0.0
    timeout_s: float = 600.0
    nccl_debug: NcclDebug | None = None
    exact: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        raise_all([*self._wrong_words(), *self._wrong_numbers()])

    def _wrong_words(self) -> list[UserError]:
        choices: dict[str, tuple[str | None, ...]] = {
            "backend": get_args(Backend),
            "gradient_compression": get_args(Compression),
            "parallel": get_args(Parallel),
            "nccl_debug": (*get_args(NcclDebug), None),
        }
        return [
            UserError(
                f"there is no {name} {value!r}",
                where=f"DistributedConfig.{name}",
                fix=suggestion(str(value), [word for word in known if word is not None]),
            )
            for name, known in choices.items()
            if (value := getattr(self, name)) not in known
        ]

    def _wrong_numbers(self) -> list[UserError]:
        return [
            UserError(
                f"{name} is {value!r}",
                where=f"DistributedConfig.{name}",
                fix=f"give {what}" + (f", or {OR_NONE[name]}" if name in OR_NONE else ""),
            )
            for name, (is_right, what) in NUMBERS.items()
            if not is_right(value := getattr(self, name)) and not (value is None and name in OR_NONE)
        ]

    def training(self, num_epochs: int, *, is_validated: bool) -> TrainingConfig:
        """Return the core's settings; its unit of samples is one batch of the loader.

        Without validation the last weights are the best. What concerns rates is the person's optimizer's.
        """
        values: dict[str, Any] = {
            "seed": self.seed,
            "epochs": num_epochs,
            "max_steps": None,
            "batch_size": 1,
            "accumulate": self.gradient_accumulation_steps,
            "lr": 1.0,
            "min_lr_fraction": 1.0,
            "warmup_fraction": 0.0,
            "weight_decay": 0.0,
            "beta1": 0.9,
            "beta2": 0.999,
            "gradient_clip": self.gradient_clip or 1.0,
            "optimizers": {},
            "precision": "auto" if self.use_mixed_precision else "fp32",
            "device": "auto",
            "num_workers": 0,
            "patience": "off",
            "selection": {"metric": None if is_validated else "last", "first_step": 0},
            "evaluations_per_epoch": 1.0,
            "checkpoint_every_s": self.checkpoint_every_s,
            "keep_checkpoints": self.keep_n_checkpoints,
            "compile": self.compile,
            "exact": self.exact,
            "parallel": self.parallel,
            "gradient_checkpointing": self.gradient_checkpointing,
            "gradient_compression": self.gradient_compression,
            "lr_batch": None,
            "collective_timeout_s": self.timeout_s,
            "nccl_debug": self.nccl_debug,
            "tensorboard": False,
        }
        return TrainingConfig(**values)
