"""Checkpoints that a kill at any instant cannot spoil.

A checkpoint is the directory ``step_N``: files of tensors and a manifest with their sizes and checksums. It
is written aside in the same directory, flushed, and renamed, so that it exists whole or not at all. The best
weights are one file beside a manifest that names it; replacing the manifest is the commit. Older ones go only
afterwards.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hpc import records
from hpc.errors import ExitCode, UserError
from hpc.records import Row

SCHEMA = 1
MANIFEST = "manifest.json"
COMMITTED = re.compile(r"step_(\d+)")
Guard = Callable[[], None]


@dataclass(frozen=True)
class Found:
    """The newest complete checkpoint, if any, and why newer ones were passed over."""

    step: int
    directory: Path | None
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Best:
    """The weights with the lowest ``metric`` so far: network name -> state dict."""

    step: int
    metric: str
    value: float
    networks: dict[str, dict[str, torch.Tensor]]


def save(root: Path, step: int, contents: Mapping[str, Any], *, about: Row, keep: int, guard: Guard) -> None:
    """Commit ``contents`` (file stem -> tensors and plain values) as ``root/step_N``, then drop older ones.

    ``guard`` raises when this attempt no longer owns the run. Raises UserError when the disk refuses.
    """
    final = root / f"step_{step}"
    aside = root / f"step_{step}.tmp-{os.getpid()}"
    with _disk_errors(final):
        root.mkdir(parents=True, exist_ok=True)
        _discard(aside)
        aside.mkdir()
        files = {
            f"{stem}.pt": _write_tensors(aside / f"{stem}.pt", content) for stem, content in contents.items()
        }
        _write_manifest(aside, {"step": step, "files": files, "about": about})
        records.sync_directory(aside)
        guard()
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
    guard: Guard,
) -> None:
    """Replace the best weights; a reader sees the old ones or the new ones."""
    aside = root / f"step_{step}.tmp-{os.getpid()}"
    with _disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        facts = _write_tensors(aside, {key: dict(weights) for key, weights in networks.items()})
        # Named by content: the file that the present manifest speaks of is never overwritten with another.
        name = f"step_{step}-{facts['sha256'][:12]}.pt"
        guard()
        aside.rename(root / name)
        about = {"metric": metric, "value": value}
        _write_manifest(root, {"step": step, "files": {name: facts}, "about": about})
    for file in root.iterdir():
        if file.name not in (name, MANIFEST):
            file.unlink(missing_ok=True)


def load_best(root: Path) -> Best:
    """Return the best weights on the CPU; raise UserError when there are none or they are damaged."""
    problem = _problem(root, None)
    if problem is not None:
        raise UserError(f"no usable best weights: {problem}", where=str(root), fix="train the run to its end")
    manifest = records.read_json(root / MANIFEST)
    (name,) = manifest["files"]
    networks = torch.load(root / name, map_location="cpu", weights_only=True)
    return Best(manifest["step"], manifest["about"]["metric"], manifest["about"]["value"], networks)


class _HashedFile(io.RawIOBase):
    """A file that knows the size and SHA-256 of what went through it."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        self.size += len(view)
        return self.file.write(view)

    def close(self) -> None:
        self.file.close()
        super().close()


def _write_tensors(path: Path, content: Any) -> Row:
    with _HashedFile(path) as file:
        torch.save(content, file)  # type: ignore[arg-type]
        file.file.flush()
        os.fsync(file.file.fileno())
        return {"sha256": file.sha256.hexdigest(), "size": file.size}


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
    with path.open("rb") as file:
        is_same = hashlib.file_digest(file, "sha256").hexdigest() == facts["sha256"]
    return None if is_same else f"{path.name} does not match its checksum"


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


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch's zip writer turns some write errors into RuntimeError
        raise UserError(
            f"cannot save {target.name}: {str(error).splitlines()[0]}",
            where=str(target.parent),
            fix="make room or give permission there, then submit again; the checkpoint before it is intact",
            exit_code=ExitCode.FAILED,
        ) from error
