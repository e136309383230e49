"""What the core and the disk say, in the words of a script: its arguments instead of a run's keys."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hpc.base.errors import ExitCode, UserError, UserErrors
from hpc.run.paths import RunPaths
from stockpred.train.distributed import Group, LostContact, lost_peers_explained

GO_ON = "start it again: the same call goes on from its last checkpoint"
WORDS = {
    "training.precision=fp32": "use_mixed_precision=False",
    "training.precision=bf16 or fp32": "use_mixed_precision=False",
    "training.precision": "use_mixed_precision",
    "training.device=": "device=",
    "training.device": "device",
    "training.lr": "the optimizer's lr",
    "training.gradient_clip": "gradient_clip",
    "training.gradient_checkpointing": "gradient_checkpointing",
    "training.gradient_compression": "gradient_compression",
    "training.batch_size": "the loader's batch_size",
    "training.accumulate": "gradient_accumulation_steps",
    "training.parallel": "parallel",
    "training.max_steps": "the number of epochs",
    "resources.gpus": "gpus_per_node",
    "submit again": "start it again",
}
"""What a message of the core calls something, and what it is called here; longer ones first."""
OF_TORCHS_RANKS = ("torch.distributed", "torch.nn.parallel", "torch.autograd", "stockpred.train")
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def explained(folder: Path, group: Group) -> Iterator[None]:
    """Raise UserError in the place of what a person can mend; errors of their own code pass as they are."""
    with our_words(), _explained(folder, group):
        yield


@contextmanager
def _explained(folder: Path, group: Group) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(error) from error
    except RuntimeError as error:
        if group.world_size > 1 and _origin(error).startswith(OF_TORCHS_RANKS):
            with lost_peers_explained(group.env, RunPaths(folder)):
                raise
        raise
    except OSError as error:
        if not _is_of_our_write(error, folder):
            raise
        raise _disk_refused(error, folder) from error


@contextmanager
def our_words() -> Iterator[None]:
    """Let an error of the core name settings as they are called here."""
    try:
        yield
    except UserError as error:
        raise in_our_words(error).with_traceback(error.__traceback__) from error.__cause__


def in_our_words(error: UserError) -> UserError:
    """Return the error of the core with the names that settings have here, and without a run's files."""
    if isinstance(error, UserErrors):
        return UserErrors([in_our_words(problem) for problem in error.problems])
    if isinstance(error, LostContact):
        fix = f"see what the rank said that ended first, then {GO_ON}"
        return LostContact(error.what, where=None, fix=fix, exit_code=error.exit_code)
    is_of_a_run = error.where is not None and Path(error.where).name == RunPaths(Path()).config.name
    where = "DistributedConfig" if is_of_a_run else error.where
    said = [None if text is None else _translated(text) for text in (where, error.fix)]
    return type(error)(_translated(error.what), where=said[0], fix=said[1], exit_code=error.exit_code)


def _translated(text: str) -> str:
    for theirs, ours in WORDS.items():
        text = text.replace(theirs, ours)
    return text


def _out_of_memory(error: torch.OutOfMemoryError) -> UserError:
    return UserError(
        f"the GPU's memory is full: {str(error).splitlines()[0]}",
        fix="lower the loader's batch_size and raise gradient_accumulation_steps by as much; else set "
        "gradient_checkpointing=True or use_mixed_precision=True",
        exit_code=ExitCode.FAILED,
    )


def _is_of_our_write(error: OSError, folder: Path) -> bool:
    """Say whether the disk refused a file of ours: a write to an open file does not know its name."""
    if error.errno not in OF_THE_DISK:
        return False
    if error.filename is None:
        return _origin(error).split(".")[0] == "hpc"
    return Path(str(error.filename)).absolute().is_relative_to(folder.absolute())


def _disk_refused(error: OSError, folder: Path) -> UserError:
    return UserError(
        error.strerror or str(error),
        where=str(error.filename or folder),
        fix=f"make room or give permission there, then {GO_ON}",
        exit_code=ExitCode.FAILED,
    )


def _origin(error: BaseException) -> str:
    """Return the module that raised an error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""
