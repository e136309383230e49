"""Runs of several ranks: how they ended, what they left, and whether two are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hpc.base import records
from hpc.run.paths import RunPaths
from tests.forked import Rank
from tests.stockpred.library.compare import leaves

Ranks = list[Rank]
LIMIT_S = 600
"""Nothing waits for it to pass: it ends what hangs."""


def ended(ranks: Ranks) -> list[int]:
    """Wait for all ranks; return their exit codes."""
    outputs = [rank.communicate(timeout=LIMIT_S)[0] for rank in ranks]
    codes = [rank.returncode for rank in ranks]
    assert all(code in (0, 1, 85, -9) for code in codes), outputs
    return codes


def checkpoint_of(run: Path) -> Path:
    return max((run / "checkpoints").iterdir(), key=lambda path: int(path.name.removeprefix("step_")))


def final_state(run: Path) -> dict[str, Any]:
    directory = checkpoint_of(run)
    return {file.stem: torch.load(file, weights_only=True) for file in directory.glob("*.pt")}


def assert_identical(run: Path, other: Path) -> None:
    """Every tensor, counter and row equal, bit for bit."""
    ours, theirs = dict(leaves(final_state(run))), dict(leaves(final_state(other)))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        same = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
        assert same, name
    assert RunPaths(run).metrics.read_bytes() == RunPaths(other).metrics.read_bytes()


def assert_close(run: Path, other: Path) -> None:
    ours, theirs = final_state(run)["networks"], final_state(other)["networks"]
    for name, network in ours.items():
        for key, tensor in network.items():
            torch.testing.assert_close(tensor, theirs[name][key], atol=1e-6, rtol=1e-6)
    rows = zip(
        records.read_rows(RunPaths(run).metrics), records.read_rows(RunPaths(other).metrics), strict=True
    )
    for mine, yours in rows:
        assert mine["loss"] == pytest.approx(yours["loss"], abs=1e-6)
        assert mine.get("validation", {}) == pytest.approx(yours.get("validation", {}), abs=1e-6)
