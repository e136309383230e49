"""A directory of prepared files that is complete or absent: written aside, hashed, then renamed.

``manifest.json`` holds size and sha256 of every file, one sha256 over all, and what they were made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpc.base import records
from hpc.base.errors import UserError

MANIFEST = "manifest.json"


def writing(path: Path) -> contextlib.AbstractContextManager[None]:
    """Raise UserError with ``path`` where what happens inside cannot write."""
    return records.writing(
        path,
        what="the prepared bars cannot be written",
        fix="check free space, quota and permissions there, then start the run again",
    )


def write(
    directory: Path,
    fill: Callable[[Path], None],
    made_from: Mapping[str, Any],
    guard: Callable[[], None] = lambda: None,
) -> None:
    """Let ``fill`` write files into a directory aside, then put it in the place of ``directory``.

    ``guard`` is called before the first file is written and before ``directory`` is replaced.
    """
    guard()
    aside = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with writing(directory):
            _fill_aside(aside, fill, made_from)
            guard()
            shutil.rmtree(directory, ignore_errors=True)
            aside.rename(directory)
            records.sync_directory(directory.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fill_aside(aside: Path, fill: Callable[[Path], None], made_from: Mapping[str, Any]) -> None:
    aside.mkdir(parents=True)
    fill(aside)
    files = {path.name: _entry(path) for path in sorted(aside.iterdir())}
    manifest = {"files": files, "sha256": _digest_of(files), "made_from": dict(made_from)}
    records.write_json(aside / MANIFEST, manifest)


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Return the manifest, or None where ``directory`` is not complete."""
    return records.read_json_if_any(directory / MANIFEST)


def verify(directory: Path) -> dict[str, Any]:
    """Return the manifest; raise UserError where a file is missing or differs from it."""
    manifest = read_manifest(directory)
    if manifest is None:
        raise UserError("prepared bars are not complete", where=str(directory), fix="start the run again")
    for name, entry in manifest["files"].items():
        path = directory / name
        if not path.is_file() or _entry(path) != entry:
            raise UserError(
                "was changed after it was prepared",
                where=str(path),
                fix=f"remove {directory} and start again",
            )
    return manifest


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": digest}


def _digest_of(files: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
