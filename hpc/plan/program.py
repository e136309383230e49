"""Questions to the training program, which runs in a process of its own: JSON in, JSON out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from hpc.base import shell
from hpc.base.errors import UserError
from hpc.base.shell import Answer

Origin = Callable[[str], str | None]
"""Takes a dotted key, returns the place that set it."""


def ask(*words: str, about: object, root: Path | None, timeout_s: float = 120.0) -> Answer:
    """Run ``stockpred WORDS`` in the workspace ``root`` with ``about`` as JSON on its stdin."""
    command = [sys.executable, "-m", "stockpred", *words]
    return shell.run(command, stdin=json.dumps(about), timeout_s=timeout_s, cwd=root)


def errors(rows: Iterable[tuple[Mapping[str, str | None], Origin]]) -> list[UserError]:
    """Return what the program found amiss as errors; a place that is a key becomes the place that set it."""
    return [
        UserError(str(row["what"]), where=origin(row["where"] or "") or row["where"], fix=row["fix"])
        for row, origin in rows
    ]
