"""A directory of prepared files that is complete or absent: written aside, hashed, then renamed.

``manifest.json`` holds size and sha256 of every file, one sha256 over all, and what they were made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc.base import records
from hpc.base.errors import UserError

MANIFEST = "manifest.json"


def writing(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turn an error of the file system inside the block into a UserError that names ``path``."""
    return records.writing(
        path,
        what="the prepared bars cannot be written",
        fix="check free space, quota and permissions there, then start the run again",
    )


@contextlib.contextmanager
def replacing(
    directory: Path, made_from: Mapping[str, Any], check_lease: Callable[[], None]
) -> Iterator[Path]:
    """Yield an empty directory aside; once it is filled, put it in the place of ``directory``.

    ``directory`` stays as it was where the block raises. ``check_lease`` is called before the first file is
    written and before ``directory`` is replaced. Raises UserError where something cannot be written.
    """
    check_lease()
    aside = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with writing(directory):
            aside.mkdir(parents=True)
            yield aside
            _write_manifest(aside, made_from)
            check_lease()
            shutil.rmtree(directory, ignore_errors=True)
            aside.rename(directory)
            records.sync_directory(directory.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_manifest(directory: Path, made_from: Mapping[str, Any]) -> None:
    files = {path.name: _entry(path) for path in sorted(directory.iterdir())}
    manifest = {"files": files, "sha256": _digest_of(files), "made_from": dict(made_from)}
    records.write_json(directory / MANIFEST, manifest)


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


def read_json_files(directory: Path, *paths: Path) -> list[dict[str, Any]]:
    """Return the contents of the JSON files that belong to a complete ``directory``.

    Raises UserError where the preparation has not finished.
    """
    contents = [content for path in paths if (content := records.read_json_if_any(path)) is not None]
    if read_manifest(directory) is None or len(contents) < len(paths):
        raise UserError("the bars are not prepared", where=str(directory), fix="start the run again")
    return contents


def map_arrays(directory: Path, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Return arrays by name, mapped from disk and not writable."""
    return {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in names}


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": digest}


def _digest_of(files: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
