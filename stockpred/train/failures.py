"""What fails around a job, said for people: a disk that refuses, a GPU whose memory is full."""

from __future__ import annotations

import sys
from pathlib import Path

from hpc.base.errors import ExitCode, UserError

ROOM_FOR_A_RUN = (
    "lower training.batch_size and raise training.accumulate by as much; else set "
    "training.gradient_checkpointing=true, training.precision=bf16, or a smaller model.context_length"
)


def explained(error: Exception, run_dir: Path) -> UserError | None:
    """Return what a person can mend about an error that is not ours; None for a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError):
        return disk_refused(error, run_dir)
    torch = sys.modules.get("torch")  # a job may fail before it needs torch
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return UserError(
            f"the GPU's memory is full: {str(error).splitlines()[0]}",
            fix=ROOM_FOR_A_RUN,
        )
    return None


def disk_refused(error: OSError, run_dir: Path) -> UserError:
    """Name the file, or the run directory for a write to an open file, which does not know its name."""
    return UserError(
        error.strerror or str(error) or type(error).__name__,
        where=str(error.filename or run_dir),
        fix="make room or give permission there, then submit again: the run goes on from its last checkpoint",
        exit_code=ExitCode.FAILED,
    )
