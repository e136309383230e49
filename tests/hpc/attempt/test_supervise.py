"""One attempt under supervision: signals at any moment, and ranks that do not outlive it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc.attempt.supervise import run_attempt
from hpc.run import lease
from hpc.run.ending import Cause, Decision
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from tests.hpc.attempt.platforms import LIMITS, Shell


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    """Return a run that was submitted as job 7."""
    paths = RunPaths(tmp_path / "runs" / "toy" / "one")
    paths.root.mkdir(parents=True)
    Ledger(paths.events).append("submitted", job_id="7", executor="local")
    return paths


def test_a_run_that_is_cancelled_while_its_attempt_takes_it_does_not_begin(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    take: Callable[..., None] = lease.take

    def take_late(*arguments: Any, **options: Any) -> None:
        Ledger(paths.events).append("cancelled")
        take(*arguments, **options)

    monkeypatch.setattr(lease, "take", take_late)
    platform = Shell()

    ending = run_attempt(paths, platform, LIMITS)

    assert (ending.cause, ending.decision) == (Cause.CANCELLED, Decision.STOP)
    assert platform.processes == []
    assert Ledger(paths.events).history().attempts == ()
    assert not paths.lease.exists()
