"""JSON and JSON-lines files that survive a kill at any instant.

A file written whole is written aside, flushed to disk and renamed; a line is appended by one write call.
A reader therefore sees the old content, the new content, or one torn last line, which it leaves out.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hpc.base.errors import ExitCode, UserError

Row = dict[str, Any]


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, content: object) -> None:
    write_text(path, json_text(content))


def json_text(content: object) -> str:
    """Return the text of a JSON file that people may read."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def read_json_if_any(path: Path) -> Row | None:
    """Return the object in ``path``, or None where there is no readable one."""
    try:
        content = read_json(path)
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return content if isinstance(content, dict) else None


def append_row(path: Path, row: Row) -> None:
    """Append one line, by one write call where the disk takes it whole; start afresh after a torn line."""
    line = (json.dumps(row, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if _ends_torn(descriptor):
            line = b"\n" + line
        while line:  # a disk that is nearly full takes only a part
            line = line[os.write(descriptor, line) :]
    finally:
        os.close(descriptor)


def read_rows(path: Path) -> list[Row]:
    """Return every whole row; a line torn by a kill is left out."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [row for row in map(_parse_row, lines) if row is not None]


def keep_rows(path: Path, is_kept: Callable[[Row], bool]) -> None:
    """Rewrite ``path`` atomically with the rows that are kept; torn lines go."""
    if path.exists():
        write_rows(path, filter(is_kept, read_rows(path)))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


@contextlib.contextmanager
def writing(
    path: Path, *, what: str = "cannot be written", fix: str, exit_code: ExitCode = ExitCode.USAGE
) -> Iterator[None]:
    """Turn what the file system refuses inside into one UserError that names ``path`` and the reason."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{what}: {error.strerror or error}", where=str(path), fix=fix, exit_code=exit_code
        ) from error


def sync_directory(path: Path) -> None:
    """Make renames inside ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _parse_row(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None
