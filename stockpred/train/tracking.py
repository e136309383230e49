"""What training tells the world: metrics that repeat to the bit, progress and speed that do not."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from hpc.base import records, text
from hpc.base.errors import UserError
from hpc.base.records import Row
from hpc.run.attempt import Attempt
from stockpred.train.cadence import Cadence

log = logging.getLogger(__name__)

STATUS_EVERY_S = 2.0
LOG_EVERY_S = 10.0
SPEED = ("step", "attempt", "time", "steps_per_s", "samples_per_s")


@dataclass(frozen=True)
class Tracker:
    """The best validation value so far, and the evaluations since without a better one."""

    best: float | None = None
    best_step: int | None = None
    num_worse: int = 0

    def after(self, value: float, step: int, *, is_better: bool) -> Tracker:
        if is_better:
            return Tracker(best=value, best_step=step, num_worse=0)
        return replace(self, num_worse=self.num_worse + 1)

    def is_out_of_patience(self, patience: int | Literal["off"]) -> bool:
        return patience != "off" and self.num_worse >= patience

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)


class SummaryWriter(Protocol):
    """The part of TensorBoard's writer that is used here."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...
    def flush(self) -> None: ...


class MetricsLog:
    """Rows of ``metrics.jsonl``, mirrored to TensorBoard when asked; written by rank 0."""

    def __init__(self, attempt: Attempt, *, tensorboard: bool) -> None:
        self.paths = attempt.paths
        self.check_lease = attempt.check_lease
        self.wants_tensorboard = tensorboard
        self.writer: SummaryWriter | None = None

    def begin_after(self, step: int) -> None:
        """Cut the history to ``step``: what came later will come again."""
        self.check_lease()
        for path in (self.paths.metrics, self.paths.speed):
            records.keep_rows(path, lambda row: int(row["step"]) <= step)
        if self.wants_tensorboard:
            self.writer = open_tensorboard(self.paths.tensorboard, step + 1)

    def append(self, row: Row) -> None:
        self.check_lease()
        records.append_row(self.paths.metrics, row)
        if self.writer is not None:
            _mirror(self.writer, row)

    def sync(self) -> None:
        """Bring the rows to disk, so that no checkpoint is ever ahead of its history."""
        if self.paths.metrics.exists():
            descriptor = os.open(self.paths.metrics, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if self.writer is not None:
            self.writer.flush()


class Progress:
    """``status.json``, ``speed.jsonl`` and a log line now and then; written by rank 0.

    They are news, not results: a disk that refuses them does not end the training.
    """

    def __init__(
        self,
        attempt: Attempt,
        cadence: Cadence,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.paths = attempt.paths
        self.cadence = cadence
        self.attempt = attempt.number
        self.check_lease = attempt.check_lease
        self.clock = clock
        self.loss: dict[str, float] = {}
        self._marks: deque[tuple[float, int]] = deque(maxlen=32)
        self._last_status = self._last_line = float("-inf")

    def begin_after(self, step: int) -> None:
        self._marks.append((self.clock(), step))

    def tick(self, step: int, tracker: Tracker, *, is_last: bool = False) -> None:
        """Tell where training is, at most every two seconds; raise UserError when the run is lost."""
        now = self.clock()
        if now - self._last_status < STATUS_EVERY_S and not is_last:
            return
        self._last_status = now
        if step > self._marks[-1][1]:
            self._marks.append((now, step))
        status = self._status(now, step, tracker)
        is_line_due = now - self._last_line >= LOG_EVERY_S or is_last
        try:
            self.check_lease()
            replace_lightly(self.paths.status, status)
            if is_line_due:
                records.append_row(self.paths.speed, {key: status[key] for key in SPEED})
        except OSError as error:
            log.warning("cannot tell the progress: %s", error)
        if is_line_due:
            self._last_line = now
            log.info(_line(status))

    def _status(self, now: float, step: int, tracker: Tracker) -> Row:
        (begin, first), (end, last) = self._marks[0], self._marks[-1]
        steps_per_s = (last - first) / (end - begin) if end > begin else None
        remaining = self.cadence.total_steps - step
        return {
            "step": step,
            "total_steps": self.cadence.total_steps,
            "epoch": self.cadence.epoch(step),
            "loss": self.loss,
            "best": tracker.best,
            "best_step": tracker.best_step,
            "steps_per_s": steps_per_s,
            "samples_per_s": steps_per_s * self.cadence.global_batch if steps_per_s else None,
            "eta_s": remaining / steps_per_s if steps_per_s else None,
            "attempt": self.attempt,
            "time": now,
        }


def replace_lightly(path: Path, row: Row) -> None:
    """Replace ``path`` atomically without waiting for the disk: what comes after a crash is written anew."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.write_text(json.dumps(row, indent=2, allow_nan=False) + "\n")
    aside.replace(path)


def open_tensorboard(directory: Path, purge_step: int) -> SummaryWriter:
    """Return TensorBoard's writer; raise UserError when the package is not there."""
    try:
        from torch.utils.tensorboard import SummaryWriter as TorchWriter
    except ImportError as error:
        raise UserError(
            "training.tensorboard is on, but the package is not installed",
            fix="pip install tensorboard, or set training.tensorboard=false",
        ) from error
    return TorchWriter(log_dir=str(directory), purge_step=purge_step)


def _mirror(writer: SummaryWriter, row: Row) -> None:
    writer.add_scalar("lr", row["lr"], row["step"])
    for group in ("loss", "validation"):
        for name, value in row.get(group, {}).items():
            writer.add_scalar(f"{group}/{name}", value, row["step"])


def _line(status: Row) -> str:
    losses = " ".join(f"{name} {value:.4f}" for name, value in status["loss"].items())
    best = f", best {status['best']:.4f} at {status['best_step']}" if status["best"] is not None else ""
    speed = f", {status['samples_per_s']:.0f} samples/s" if status["samples_per_s"] else ""
    eta = f", {text.duration(status['eta_s'])} left" if status["eta_s"] is not None else ""
    return f"step {status['step']}/{status['total_steps']}, loss {losses or '-'}{best}{speed}{eta}"
