"""One file of tensors and plain values: on disk before anybody relies on it, and sure to be loaded again.

Nothing that is loaded may run code, so torch loads with ``weights_only=True``, which refuses much that
``torch.save`` takes. What was written is therefore read back at once. Its tensors stay on the disk
(``mmap``), so that this takes milliseconds for a file of any size.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpc.base.errors import ExitCode, UserError
from hpc.base.records import Row

SIGNS_OF_TORCHS_WRITER = ("inline_container", "PytorchStreamWriter")
CANNOT_PICKLE = (pickle.PicklingError, AttributeError, TypeError)


def write(path: Path, content: Any, *, name: str | None = None) -> Row:
    """Write ``content`` and wait for the disk; return the file's SHA-256 and size.

    Numbers of numpy become Python's. Raises UserError for an entry that could not be loaded again, under
    ``name``, which is the file's unless it is given.
    """
    content = with_python_numbers(content)
    name = name or path.stem
    with _HashedFile(path) as file:
        try:
            torch.save(content, file)  # type: ignore[arg-type]
        except CANNOT_PICKLE as error:
            raise _cannot_be_kept(content, name) from error
        file.file.flush()
        os.fsync(file.file.fileno())
        facts = {"sha256": file.sha256.hexdigest(), "size": file.size}
    try:
        _read_back(path)
    except pickle.UnpicklingError as error:
        raise _cannot_be_kept(content, name) from error
    return facts


def with_python_numbers(content: Any) -> Any:
    """Return ``content`` with Python's numbers in the place of numpy's scalars; the rest is not copied."""
    if isinstance(content, np.generic):
        return content.item()
    if isinstance(content, dict):
        pairs = [(with_python_numbers(key), with_python_numbers(value)) for key, value in content.items()]
        if all(key is k and value is v for (key, value), (k, v) in zip(pairs, content.items(), strict=True)):
            return content
        changed = copy.copy(content)  # keeps the kind of dict and what hangs on it, as on a state_dict
        changed.clear()
        changed.update(pairs)
        return changed
    if type(content) in (list, tuple):
        return type(content)(map(with_python_numbers, content))
    return content


@contextmanager
def disk_errors(target: Path, fix: str) -> Iterator[None]:
    """Raise UserError in the place of what the disk says while ``target`` is written."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        problem = _disk_problem(error)
        if problem is None:
            raise
        raise UserError(
            f"cannot save {target.name}: {problem}",
            where=str(target.parent),
            fix=fix,
            exit_code=ExitCode.FAILED,
        ) from error


@contextmanager
def gone_on_failure(aside: Path) -> Iterator[None]:
    """Remove what a failed write has left, at once: on a full disk others need the room."""
    try:
        yield
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):
            aside.unlink()
        raise


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


def _read_back(path: Path) -> None:
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # not every file system can map files
        torch.load(path, map_location="cpu", weights_only=True)


def _cannot_be_kept(content: Any, name: str) -> UserError:
    where, value = _first_that_cannot(content, name)
    return UserError(
        f"a checkpoint cannot hold {where}, a {type(value).__module__}.{type(value).__qualname__}: "
        "what is loaded again must be tensors and plain values",
        where=where,
        fix="let state_dict, or get_extra_state of a module, give tensors, numbers, text, or lists and dicts "
        "of these",
    )


def _first_that_cannot(content: Any, name: str) -> tuple[str, Any]:
    """Return the innermost entry that cannot be loaded again, and what it is called."""
    for key, value in _entries(content):
        if not _can_be_loaded(value):
            return _first_that_cannot(value, f"{name}.{key}")
    return name, content


def _entries(content: Any) -> list[tuple[Any, Any]]:
    if isinstance(content, Mapping):
        return list(content.items())
    return list(enumerate(content)) if isinstance(content, list | tuple) else []


def _can_be_loaded(value: Any) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, map_location="cpu", weights_only=True)
    except (*CANNOT_PICKLE, pickle.UnpicklingError):
        return False
    return True


def _disk_problem(error: OSError | RuntimeError) -> str | None:
    """Return what the disk said; None for an error that is not the disk's."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # Torch's zip writer, when a write fails, trips over its own count of bytes.
    if not any(sign in str(error) for sign in SIGNS_OF_TORCHS_WRITER):
        return None
    cause = error.__context__
    return _disk_problem(cause) if isinstance(cause, OSError) else str(error).splitlines()[0]
