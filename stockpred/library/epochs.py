"""What happens at the end of an epoch: the history grows, the scheduler steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc.base.errors import UserError
from stockpred.library.checkpoints import History
from stockpred.library.loaders import Epochs
from stockpred.library.optimizer import SuppliedOptimizer


class EpochEnd:
    """Called on every rank when an epoch is over; what it remembers is part of each checkpoint.

    So is what decides the order of ``training``, the epochs of the train loader.
    """

    def __init__(self, history: History, *, training: Epochs, steps_per_epoch: int) -> None:
        self.history = {name: list(values) for name, values in history.items()}
        self.training, self.steps_per_epoch = training, steps_per_epoch

    def __call__(self, step: int, metrics: Mapping[str, float], optimizer: SuppliedOptimizer) -> None:
        """Close the epoch that ended with ``step`` finished steps."""
        epoch = step // self.steps_per_epoch
        row = {"epoch": epoch, **metrics, "lr": optimizer.lr}
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        optimizer.end_epoch(metrics.get("val_loss", metrics["train_loss"]))

    def state_dict(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "num_batches": self.training.num_batches,
            "training": self.training.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the history and the order up; raise UserError where an epoch had another number of batches."""
        before, now = state["num_batches"], self.training.num_batches
        if before != now:
            raise UserError(
                f"the epochs of this training have {before} batches, now the loader gives {now}",
                where="train_loader",
                fix="give the same data and batch_size, or another checkpoint_dir",
            )
        self.training.load_state_dict(state.get("training", {}))
        self.history = {name: list(values) for name, values in state["history"].items()}
