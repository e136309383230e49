"""The library's front door: bring a model and loaders of your own (docs/library.md).

The same names can be imported from ``stockpred``.
"""

from __future__ import annotations

from stockpred.library.configuration import Config
from stockpred.library.models import get_model
from stockpred.library.options import DistributedConfig
from stockpred.library.processes import cleanup_distributed, setup_distributed
from stockpred.library.trainers import DistributedTrainer, Trainer, launch_distributed_training
from stockpred.library.wrappers import MultiGPUWrapper

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
