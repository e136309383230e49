"""A cancelled run stops, whichever of its processes is just coming or going."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpc.attempt.local_job import local_holder
from hpc.base import records
from hpc.base.errors import UserError
from hpc.commands import cancel
from hpc.run import lease
from hpc.run.history import Ledger
from hpc.run.paths import LAYOUT, RunPaths
from hpc.slurm import commands
from hpc.slurm.parse import QueuedJob

LEAVE_S = 30
"""Nothing waits for it to pass: it ends a test that would hang."""


@pytest.fixture
def new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RunPaths]:
    """Return the maker of local runs in a workspace of their own."""
    (tmp_path / "cases").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPC_ROOT", raising=False)

    def make(run_id: str) -> RunPaths:
        paths = RunPaths.of(tmp_path, "toy", run_id)
        records.write_json(paths.plan, {"layout": LAYOUT})
        Ledger(paths.events).append("submitted", job_id="7", executor="local")
        return paths

    return make


@pytest.fixture
def controller() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that may hold a run."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def hold(paths: RunPaths, controller: subprocess.Popen[bytes]) -> None:
    mine = lease.new(attempt=1, job_id="7")
    its = replace(mine, pid=controller.pid, born=lease._born(controller.pid))
    lease.take(paths.lease, its, is_running=lambda _: None)


def lose(paths: RunPaths) -> None:
    """Leave a run as one whose processes are gone."""
    Ledger(paths.events).append("attempt_started", attempt=1, job_id="7", nodes=[])


def test_a_process_that_takes_the_run_while_it_is_cancelled_is_told(
    new_run: Callable[[str], RunPaths],
    controller: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = new_run("one")

    class Late(Ledger):
        """A ledger whose event comes when a process has just taken the run."""

        def append(self, kind: str, **fields: Any) -> None:
            hold(paths, controller)
            super().append(kind, **fields)

    monkeypatch.setattr(cancel, "Ledger", Late)

    cancel.cancel("toy", None)

    assert controller.wait(timeout=LEAVE_S) == -signal.SIGTERM


def test_a_successor_that_is_submitted_while_its_run_is_cancelled_is_cancelled_too(
    new_run: Callable[[str], RunPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = new_run("one")
    ledger = Ledger(paths.events)
    ledger.append("submitted", job_id="8", executor="slurm")
    cancelled: list[str] = []

    class Late(Ledger):
        """A ledger whose event comes when the job has just left a successor."""

        def append(self, kind: str, **fields: Any) -> None:
            ledger.append("submitted", job_id="9", executor="slurm", successor_of="8")
            super().append(kind, **fields)

    jobs = tuple(QueuedJob(job_id, "PENDING", "None", None, paths.job_name) for job_id in ("8", "9"))
    monkeypatch.setattr(cancel, "Ledger", Late)
    monkeypatch.setattr(commands, "queue", lambda: jobs)
    monkeypatch.setattr(commands, "cancel", cancelled.extend)

    cancel.cancel("toy", None)

    assert {"8", "9"} <= set(cancelled)
    assert ledger.history().is_cancelled


def test_a_run_that_works_elsewhere_is_left_as_it_is(
    new_run: Callable[[str], RunPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = new_run("one")
    far = replace(lease.new(attempt=1, job_id="7"), host="another-machine")
    lease.take(paths.lease, far, is_running=lambda _: None)
    before = Ledger(paths.events).rows()

    with pytest.raises(UserError, match="runs on another-machine"):
        cancel.cancel("toy", None)

    assert Ledger(paths.events).rows() == before


def test_a_lost_run_does_not_stand_in_the_way_of_the_live_one(
    new_run: Callable[[str], RunPaths], controller: subprocess.Popen[bytes]
) -> None:
    lost, live = new_run("old"), new_run("new")
    lose(lost)
    hold(live, controller)
    assert local_holder(live) is not None

    cancel.cancel("toy", None)

    assert Ledger(live.events).history().is_cancelled
    assert not Ledger(lost.events).history().is_cancelled
    assert controller.wait(timeout=LEAVE_S) == -signal.SIGTERM


def test_a_lost_run_is_not_said_to_be_cancelled(
    new_run: Callable[[str], RunPaths], capsys: pytest.CaptureFixture[str]
) -> None:
    lose(new_run("old"))

    cancel.cancel("toy", None)

    assert capsys.readouterr().out == "toy/old is not running (lost: its local processes are gone)\n"


def test_several_live_runs_have_to_be_told_apart(new_run: Callable[[str], RunPaths]) -> None:
    new_run("old"), new_run("new")

    with pytest.raises(UserError, match="means several runs"):
        cancel.cancel("toy", None)
