"""What a Slurm job leaves behind at its end, with a Slurm that says what a test wants to hear."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc.attempt import slurm_job
from hpc.attempt.slurm_job import SlurmBatch, run_slurm_attempt
from hpc.base.errors import ExitCode
from hpc.run.ending import Decision, Ending
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from hpc.slurm import commands
from hpc.slurm.commands import Refusal
from tests.hpc.attempt.platforms import LIMITS


class FakeSlurm:
    """A Slurm that refuses every requeue; ``during`` names the order in which the person cancels the run."""

    def __init__(self, paths: RunPaths, during: str | None) -> None:
        self.paths = paths
        self.during = during
        self.orders: list[str] = []

    def requeue(self, job_id: str) -> Refusal | None:
        self._hear("requeue", job_id)
        return Refusal("requeue is disabled")

    def submit_after(self, job_id: str, script: Path, root: Path) -> str | Refusal:
        self._hear("sbatch", job_id)
        return "8"

    def cancel(self, job_ids: list[str]) -> Refusal | None:
        self._hear("scancel", *job_ids)
        return None

    def _hear(self, order: str, *job_ids: str) -> None:
        self.orders.append(" ".join((order, *job_ids)))
        if order == self.during:
            Ledger(self.paths.events).append("cancelled")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    """Return a run at work as Slurm's job 7, whose questions to Slurm have no answer."""
    (tmp_path / "cases").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPC_ROOT", raising=False)
    monkeypatch.setattr(commands, "job_facts", lambda _: None)
    monkeypatch.setattr(commands, "hostnames", lambda _: ())
    paths = RunPaths.of(tmp_path, "toy", "one")
    paths.root.mkdir(parents=True)
    ledger = Ledger(paths.events)
    ledger.append("submitted", job_id="7", executor="slurm")
    ledger.append("attempt_started", attempt=1, job_id="7", nodes=[])
    return paths


@pytest.mark.parametrize(
    ("during", "orders"),
    [
        (None, ["requeue 7", "sbatch 7"]),
        ("requeue", ["requeue 7"]),
        ("sbatch", ["requeue 7", "sbatch 7", "scancel 8"]),
    ],
)
def test_a_run_that_is_cancelled_while_it_goes_back_to_the_queue_leaves_no_successor(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch, during: str | None, orders: list[str]
) -> None:
    slurm = FakeSlurm(paths, during)
    for name in ("requeue", "submit_after", "cancel"):
        monkeypatch.setattr(commands, name, getattr(slurm, name))

    goes_on = SlurmBatch([], {"SLURM_JOB_ID": "7"}).continue_later(paths)

    assert slurm.orders == orders
    assert goes_on == (during is None)
    assert Ledger(paths.events).history().is_cancelled == (during is not None)


def test_a_run_that_was_cancelled_before_does_not_go_back_to_the_queue(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = FakeSlurm(paths, None)
    monkeypatch.setattr(commands, "requeue", slurm.requeue)
    Ledger(paths.events).append("cancelled")

    assert not SlurmBatch([], {"SLURM_JOB_ID": "7"}).continue_later(paths)

    assert slurm.orders == []


@pytest.fixture
def deadly() -> Iterator[list[int]]:
    """Return the TERMs that would have killed this process."""
    killed: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: killed.append(number))
    yield killed
    signal.signal(signal.SIGTERM, before)


def test_a_job_lives_through_the_term_that_its_own_requeue_brings(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch, deadly: list[int]
) -> None:
    def requeue(job_id: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def ended(*_: Any) -> Ending:
        return Ending("deadline", Decision.CONTINUE, "continues after step 4")

    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    monkeypatch.setattr(slurm_job, "run_attempt", ended)
    monkeypatch.setattr(commands, "requeue", requeue)

    exit_code = run_slurm_attempt(paths, [], LIMITS, array=None)

    assert exit_code is ExitCode.CONTINUE_LATER
    assert deadly == []


@pytest.mark.parametrize(
    ("ends", "is_refused"), [("exit 0", False), ("kill -TERM $$", False), ("echo no >&2; exit 1", True)]
)
def test_a_requeue_that_ends_its_own_scontrol_was_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, is_refused: bool
) -> None:
    program = tmp_path / "scontrol"
    program.write_text(f"#!/bin/sh\n{ends}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert (commands.requeue("7") is not None) == is_refused
