"""Checkpoints that a kill at any instant cannot spoil.

A checkpoint is the directory ``step_N``: files of tensors and a manifest with their sizes and checksums. It
is written aside in the same directory, flushed, and renamed, so that it exists whole or not at all. The best
weights are one file beside a manifest that names it; replacing the manifest is the commit. Older files stay
for as long as a checkpoint may be resumed to which they were the best.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hpc.base import records
from hpc.base.errors import UserError
from hpc.base.records import Row
from stockpred.train import tensorfile

SCHEMA = 1
MANIFEST = "manifest.json"
COMMITTED = re.compile(r"step_(\d+)")
BEST = re.compile(r"step_(\d+)-[0-9a-f]{12}\.pt")
FIX_OF_THE_DISK = "make room or give permission there, then submit again; the checkpoint before it is intact"
CheckLease = Callable[[], None]


def without_lease() -> None:
    """Let every write pass, where no other attempt can be alive."""


@dataclass(frozen=True)
class Found:
    """The newest complete checkpoint, if any, and why newer ones were passed over."""

    step: int
    directory: Path | None
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Best:
    """The best weights so far: network name -> state dict, and the ``metric`` that chose them."""

    step: int
    metric: str
    value: float
    networks: dict[str, dict[str, torch.Tensor]]


def save(
    root: Path, step: int, contents: Mapping[str, Any], *, about: Row, keep: int, check_lease: CheckLease
) -> None:
    """Commit ``contents`` (file stem -> tensors and plain values) as ``root/step_N``, then drop older ones.

    ``about`` goes into the manifest; its ``best_step`` tells which best weights this checkpoint needs.
    ``check_lease`` raises when this attempt no longer owns the run. Raises UserError when the disk refuses.
    """
    final = root / f"step_{step}"
    aside = root / f"step_{step}.tmp-{os.getpid()}"
    with tensorfile.disk_errors(final, FIX_OF_THE_DISK), tensorfile.gone_on_failure(aside):
        root.mkdir(parents=True, exist_ok=True)
        _discard(aside)
        aside.mkdir()
        files = {
            f"{stem}.pt": tensorfile.write(aside / f"{stem}.pt", content)
            for stem, content in contents.items()
        }
        _write_manifest(aside, {"step": step, "files": files, "about": about})
        records.sync_directory(aside)
        check_lease()
        if final.exists():
            final.rename(root / f"step_{step}.old-{os.getpid()}")
        aside.rename(final)
        records.sync_directory(root)
    _prune(root, keep)


def find_newest(root: Path) -> Found:
    """Return the newest checkpoint whose files all match its manifest."""
    skipped: list[str] = []
    for step, directory in sorted(_committed(root), reverse=True):
        problem = _problem(directory, step)
        if problem is None:
            return Found(step, directory, tuple(skipped))
        skipped.append(f"{directory.name}: {problem}")
    return Found(0, None, tuple(skipped))


def clean(root: Path, newest: Found) -> None:
    """Remove what a kill left half-written, and set aside checkpoints newer than the newest complete one."""
    if not root.exists():
        return
    for directory in list(root.iterdir()):
        if ".tmp-" in directory.name or ".old-" in directory.name:
            _discard(directory)
    for step, directory in _committed(root):
        if step > newest.step:
            _discard(directory.with_name(f"{directory.name}.bad"))
            directory.rename(directory.with_name(f"{directory.name}.bad"))


def load(directory: Path, stem: str, device: torch.device) -> Any:
    """Return one file's content; nothing in it can run code."""
    return torch.load(directory / f"{stem}.pt", map_location=device, weights_only=True)


def save_best(
    root: Path,
    step: int,
    networks: Mapping[str, Mapping[str, Any]],
    *,
    metric: str,
    value: float,
    check_lease: CheckLease,
) -> None:
    """Replace the best weights; a reader sees the old ones or the new ones, and the old file stays."""
    aside = root / f"step_{step}.tmp-{os.getpid()}"
    with tensorfile.disk_errors(root, FIX_OF_THE_DISK), tensorfile.gone_on_failure(aside):
        root.mkdir(parents=True, exist_ok=True)
        weights = {name: dict(network) for name, network in networks.items()}
        facts = tensorfile.write(aside, weights, name="networks")
        # Named by content: the file that the present manifest speaks of is never overwritten with another.
        name = f"step_{step}-{facts['sha256'][:12]}.pt"
        check_lease()
        aside.rename(root / name)
        about = {"metric": metric, "value": value}
        _write_manifest(root, {"step": step, "files": {name: facts}, "about": about})


def return_to_best(
    root: Path, step: int | None, *, metric: str, value: float | None, check_lease: CheckLease
) -> bool:
    """Make the weights of ``step`` the best again, whatever a killed attempt put there after its checkpoint.

    With None there are no best weights yet. Returns whether it succeeded: the file may be gone or damaged.
    """
    manifest = records.read_json_if_any(root / MANIFEST)
    if manifest is not None and manifest.get("step") == step and _problem(root, step) is None:
        return True
    check_lease()
    with tensorfile.disk_errors(root, FIX_OF_THE_DISK):
        (root / MANIFEST).unlink(missing_ok=True)
        for file in [] if step is None else sorted(root.glob(f"step_{step}-*.pt")):
            sha256 = _sha256(file)
            if file.stem.endswith(f"-{sha256[:12]}"):
                facts = {"sha256": sha256, "size": file.stat().st_size}
                about = {"metric": metric, "value": value}
                _write_manifest(root, {"step": step, "files": {file.name: facts}, "about": about})
                return True
    return step is None


def prune_best(root: Path, checkpoints: Path) -> None:
    """Drop the weights that neither the manifest nor any checkpoint speaks of; failures are tried again."""
    manifests = [directory / MANIFEST for _, directory in _committed(checkpoints)]
    needed = {manifest.get("about", {}).get("best_step") for manifest in map(_read, manifests)}
    named = _read(root / MANIFEST).get("files", {})
    for file in root.glob("step_*"):
        match = BEST.fullmatch(file.name)
        if file.name not in named and (match is None or int(match[1]) not in needed):
            with suppress(OSError):
                file.unlink()


def load_best(root: Path) -> Best:
    """Return the best weights on the CPU; raise UserError when there are none or they are damaged."""
    problem = _problem(root, None)
    if problem is not None:
        raise UserError(f"no usable best weights: {problem}", where=str(root), fix="train the run to its end")
    manifest = records.read_json(root / MANIFEST)
    (name,) = manifest["files"]
    networks = torch.load(root / name, map_location="cpu", weights_only=True)
    return Best(manifest["step"], manifest["about"]["metric"], manifest["about"]["value"], networks)


def _write_manifest(directory: Path, content: Row) -> None:
    manifest = {"schema": SCHEMA, "torch": torch.__version__, **content}
    records.write_json(directory / MANIFEST, {**manifest, "sha256": _digest(manifest)})


def _digest(manifest: Row) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _problem(directory: Path, step: int | None) -> str | None:
    """Say what is wrong with a directory of tensors, or None when every byte is as it was written."""
    try:
        manifest = records.read_json_if_any(directory / MANIFEST)
        if manifest is None:
            return f"{MANIFEST} is missing or unreadable"
        claimed = manifest.pop("sha256", None)
        if claimed != _digest(manifest):
            return f"{MANIFEST} does not match its own checksum"
        if manifest["schema"] != SCHEMA:
            return f"schema {manifest['schema']} is not {SCHEMA}"
        if step not in (None, manifest["step"]):
            return f"it claims to be step {manifest['step']}"
        problems = (_file_problem(directory / name, facts) for name, facts in manifest["files"].items())
        return next(filter(None, problems), None)
    except (OSError, UnicodeDecodeError) as error:
        return str(error)


def _file_problem(path: Path, facts: Row) -> str | None:
    if not path.exists():
        return f"{path.name} is missing"
    if path.stat().st_size != facts["size"]:
        return f"{path.name} has {path.stat().st_size} bytes instead of {facts['size']}"
    return None if _sha256(path) == facts["sha256"] else f"{path.name} does not match its checksum"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(manifest: Path) -> Row:
    return records.read_json_if_any(manifest) or {}


def _committed(root: Path) -> list[tuple[int, Path]]:
    if not root.exists():
        return []
    matches = ((COMMITTED.fullmatch(path.name), path) for path in root.iterdir())
    return [(int(match[1]), path) for match, path in matches if match]


def _prune(root: Path, keep: int) -> None:
    """Drop what is older than the newest ``keep``; what cannot be dropped now is tried again next time."""
    for _, directory in sorted(_committed(root), reverse=True)[max(1, keep) :]:
        with suppress(OSError):
            # The name changes first: a kill in between leaves no half-empty directory that looks committed.
            directory.rename(directory.with_name(f"{directory.name}.old-{os.getpid()}"))
    for directory in list(root.iterdir()):
        if ".old-" in directory.name or directory.suffix == ".bad":
            shutil.rmtree(directory, ignore_errors=True)


def _discard(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
