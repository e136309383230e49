"""An epoch that a person goes back to, and the files of epochs that they may go back to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpc.base import records
from hpc.run.attempt import Attempt
from stockpred.library import checkpoints
from stockpred.library.checkpoints import EpochCheckpoint
from stockpred.library.learner import SuppliedModel

STARTED_FROM = "started_from.json"


@dataclass(frozen=True)
class EpochFiles:
    """Writes ``checkpoint_epoch_N.pt`` of every ``every``-th epoch and of the last, the core's milestones.

    Each is written after the core has saved: after a kill training never goes on from before the newest of
    them. ``folder`` None keeps none; the file of the epoch ``spared`` is never dropped.
    """

    folder: Path | None
    learner: SuppliedModel
    check_lease: Callable[[], None]
    steps_per_epoch: int
    num_epochs: int
    every: int
    keep: int
    spared: int | None

    def is_due(self, step: int) -> bool:
        epoch, within = divmod(step, self.steps_per_epoch)
        is_wanted = epoch % self.every == 0 or epoch == self.num_epochs
        return self.folder is not None and step > 0 and within == 0 and is_wanted

    def passed(self, step: int, *, is_new: bool) -> None:
        """Write the file; one that a kill prevented is written when training goes on from there."""
        assert self.folder is not None
        epoch = step // self.steps_per_epoch
        if is_new or not checkpoints.path_of(self.folder, epoch).exists():
            self.check_lease()
            checkpoints.save(self.folder, self._content(epoch), keep=self.keep, spared=self.spared)

    def _content(self, epoch: int) -> EpochCheckpoint:
        optimizer = self.learner.optimizer
        scheduler = optimizer.scheduler
        return EpochCheckpoint(
            epoch=epoch,
            model_state_dict=self.learner.networks["model"].state_dict(),
            optimizer_state_dict=optimizer.optimizer.state_dict(),
            scheduler_state_dict=scheduler.state_dict() if scheduler else None,
            scaler_state_dict=optimizer.scaler.state_dict(),
            history=self.learner.epoch_end.history,
        )


def begin_from(attempt: Attempt, start: EpochCheckpoint | None) -> None:
    """Drop what lies beyond the epoch that a person has loaded, the first time they go on from it.

    The core cuts the metrics to the epoch; those of another training, from which the file is not, go.
    """
    folder = attempt.paths.root
    checkpoints.remove_unfinished(folder)
    if start is None or records.read_json_if_any(folder / STARTED_FROM) == start.identity:
        return
    attempt.check_lease()
    if not checkpoints.is_from(folder, start):
        attempt.paths.metrics.unlink(missing_ok=True)
    for directory in attempt.paths.checkpoints.glob("step_*"):
        directory.rename(directory.with_name(f"{directory.name}.old-{start.epoch}"))
    checkpoints.drop_after(folder, start.epoch)
    records.write_json(folder / STARTED_FROM, start.identity)


def forget_start(attempt: Attempt) -> None:
    """Let the next one who loads that epoch go back to it: this training has come to its end."""
    attempt.check_lease()
    (attempt.paths.root / STARTED_FROM).unlink(missing_ok=True)
