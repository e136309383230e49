"""What a result depends on besides its configuration: code, packages, machine."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from hpc.base import shell


def provenance(root: Path, packages: Iterable[str]) -> dict[str, Any]:
    """Return what a run's provenance.json holds; ``packages`` are those whose versions are recorded."""
    commit = shell.run(["git", "-C", str(root), "rev-parse", "HEAD"], timeout_s=10)
    diff = shell.run(["git", "-C", str(root), "diff", "HEAD"], timeout_s=20)
    return {
        "commit": commit.out.strip() if commit.is_ok else None,
        "uncommitted_changes": diff.out if diff.is_ok else None,
        "python": sys.version.split()[0],
        "packages": dict(_versions(packages)),
        "host": platform.node(),
        "system": platform.platform(),
        "user": os.environ.get("USER"),
    }


def _versions(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
