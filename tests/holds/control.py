"""Hold runs at a step until something has happened to them, whatever the speed of the machine."""

from __future__ import annotations

import os
from pathlib import Path

from hpc.base import records
from hpc.run.paths import RunPaths

PROJECT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join((str(PROJECT), str(Path(__file__).parent)))
"""The search path of programs that can be held (see sitecustomize.py)."""


def hold(workspace: Path, *steps: int) -> None:
    """Let every run that works in ``workspace`` wait at each of these steps, until released or stopped."""
    records.write_json(workspace / "hold.json", {"steps": steps})


def release(workspace: Path) -> None:
    (workspace / "hold.json").unlink()


def is_held(paths: RunPaths, *, attempt: int, step: int) -> bool:
    """Return whether an attempt has come to a step at which it was to wait."""
    return (paths.root / f"held_{attempt}_{step}").exists()
