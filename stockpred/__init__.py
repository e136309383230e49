"""Train market models, or models of your own: see ``stockpred.api`` and docs/library.md.

The names of ``stockpred.api`` are found here too, and looked up when they are used: importing this package
imports nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stockpred.api import (
        Config,
        DistributedConfig,
        DistributedTrainer,
        MultiGPUWrapper,
        Trainer,
        cleanup_distributed,
        get_model,
        launch_distributed_training,
        setup_distributed,
    )

__all__ = [
    "Config",
    "DistributedConfig",
    "DistributedTrainer",
    "MultiGPUWrapper",
    "Trainer",
    "cleanup_distributed",
    "get_model",
    "launch_distributed_training",
    "setup_distributed",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("stockpred.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
