"""``checkpoint_epoch_N.pt``: weights, optimizer and scheduler after N epochs, for people and their scripts.

The core resumes from its own checkpoints. These files are for going back to an epoch, for other programs, and
for taking a training along; torch loads them with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from hpc.base.errors import UserError
from hpc.base.records import sync_directory
from stockpred.library.wrappers import unwrapped
from stockpred.train import tensorfile

NAME = re.compile(r"checkpoint_epoch_(\d+)\.pt")
KEYS = ("epoch", "model_state_dict", "optimizer_state_dict")
DATA_PARALLEL_PREFIX = "module."
FIX_OF_THE_DISK = "make room or give permission there, then start it again: it goes on from its last save"

History = dict[str, list[float]]
"""``epoch``, ``train_loss``, ``lr`` and, with a validation loader, ``val_loss``: one value per epoch each."""


@dataclass(frozen=True)
class EpochCheckpoint:
    """The content of one file. ``history`` has the epochs up to this one."""

    epoch: int
    model_state_dict: Mapping[str, Any]
    optimizer_state_dict: Mapping[str, Any]
    scheduler_state_dict: Mapping[str, Any] | None = None
    scaler_state_dict: Mapping[str, Any] | None = None
    """The scale of losses in fp16; empty in any other precision."""
    history: History = field(default_factory=dict)
    sha256: str | None = None
    """Of the file that it was read from; not written into it."""

    @property
    def identity(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "sha256": self.sha256}


def path_of(folder: Path, epoch: int) -> Path:
    return folder / f"checkpoint_epoch_{epoch}.pt"


def save(folder: Path, content: EpochCheckpoint, *, keep: int, spared: int | None = None) -> None:
    """Write the file whole or not at all; drop all but the newest ``keep`` up to this epoch.

    The file of the epoch ``spared`` stays. Raises UserError when the disk refuses.
    """
    path = path_of(folder, content.epoch)
    remove_unfinished(folder)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with tensorfile.disk_errors(path, FIX_OF_THE_DISK), tensorfile.gone_on_failure(aside):
        values = {name: value for name, value in vars(content).items() if name != "sha256"}
        tensorfile.write(aside, values, name=path.name)
        aside.replace(path)
        sync_directory(folder)
    up_to_now = [(epoch, file) for epoch, file in _all(folder) if epoch <= content.epoch]
    for epoch, older in up_to_now[:-keep]:
        if epoch != spared:
            with suppress(OSError):
                older.unlink()


def remove_unfinished(folder: Path) -> None:
    """Remove what saves have left that were killed."""
    for aside in folder.glob(".checkpoint_epoch_*.tmp"):
        with suppress(OSError):
            aside.unlink()


def drop_after(folder: Path, epoch: int) -> None:
    """Remove the files of later epochs."""
    for later, path in _all(folder):
        if later > epoch:
            path.unlink()


def is_from(folder: Path, content: EpochCheckpoint) -> bool:
    """Say whether this is the content of the folder's own file of that epoch."""
    path = path_of(folder, content.epoch)
    return path.exists() and _sha256(path) == content.sha256


def load(path: Path) -> EpochCheckpoint:
    """Read a file; raise UserError where there is none, or none of this kind."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        found = ", ".join(file.name for _, file in _all(path.parent)) or "none"
        raise UserError(
            "there is no such checkpoint", where=str(path), fix=f"in {path.parent} there is: {found}"
        ) from None
    except Exception as error:  # torch raises many kinds for what is not its own
        raise UserError(f"is not a checkpoint: {str(error).splitlines()[0]}", where=str(path)) from error
    if not isinstance(content, dict) or not set(KEYS) <= content.keys():
        raise UserError(
            f"is not a checkpoint of an epoch: it needs {', '.join(KEYS)}",
            where=str(path),
            fix="give a checkpoint_epoch_N.pt",
        )
    known = {key: value for key, value in content.items() if key in EpochCheckpoint.__dataclass_fields__}
    return EpochCheckpoint(**known, sha256=_sha256(path))


def load_weights(model: nn.Module, weights: Mapping[str, Any], where: Path) -> None:
    """Load weights into a model, wrapped or not; raise UserError for those of another model."""
    plain = {key.removeprefix(DATA_PARALLEL_PREFIX): value for key, value in weights.items()}
    module = unwrapped(model)
    try:
        module.load_state_dict(plain if plain.keys() == module.state_dict().keys() else dict(weights))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(
            f"this is a checkpoint of another model: {' '.join(lines)}",
            where=str(where),
            fix="build the model that the checkpoint was made with, or take another checkpoint_dir",
        ) from None


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Any], where: Path) -> None:
    """Load an optimizer's state; raise UserError for that of another optimizer."""
    try:
        optimizer.load_state_dict(dict(state))
    except (ValueError, KeyError) as error:
        raise UserError(
            f"this is a checkpoint of another optimizer: {error}",
            where=str(where),
            fix="make the optimizer as it was, with the same parameter groups",
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _all(folder: Path) -> list[tuple[int, Path]]:
    """Return (epoch, file), the oldest first."""
    matches = ((NAME.fullmatch(path.name), path) for path in folder.glob("checkpoint_epoch_*.pt"))
    return sorted((int(match[1]), path) for match, path in matches if match)
