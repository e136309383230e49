"""One attempt under supervision: signals at any moment, and ranks that do not outlive it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM, SIGUSR2
from typing import Any

import pytest

from hpc.attempt import local_job
from hpc.attempt.local_job import LocalMachine
from hpc.attempt.slurm_job import SlurmBatch
from hpc.attempt.supervise import run_attempt, stop_signals
from hpc.base import records
from hpc.run import lease
from hpc.run.ending import CANCELLED, NOTHING, Cause, Decision
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from hpc.slurm import commands
from tests.hpc.attempt.platforms import LIMITS, Shell

TOO_LONG_S = 60
"""A rank's work where nothing waits for its end: a test that did would fail after this time."""


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

    ending = run_attempt(paths, platform, LIMITS, [])

    assert (ending.cause, ending.decision) == (Cause.CANCELLED, Decision.STOP)
    assert platform.processes == []
    assert Ledger(paths.events).history().attempts == ()
    assert not paths.lease.exists()


def test_a_signal_that_arrives_while_the_attempt_is_closed_still_counts(paths: RunPaths) -> None:
    platform = Shell(["exit 85"], signals={"circumstance": SIGTERM})

    with stop_signals() as received:
        ending = run_attempt(paths, platform, LIMITS, received)

    last = Ledger(paths.events).history().last
    assert ending.decision is Decision.STOP
    assert last is not None
    assert (last.cause, last.decision) == (Cause.CANCELLED, Decision.STOP)


def test_every_signal_is_acted_on_and_in_order(paths: RunPaths) -> None:
    platform = Shell([f"exec sleep {TOO_LONG_S}"], signals={"start": SIGUSR2, "forward": SIGTERM})

    with stop_signals() as received:
        ending = run_attempt(paths, platform, LIMITS, received)

    assert platform.forwarded == [SIGUSR2, SIGTERM]
    assert ending.cause == Cause.CANCELLED
    assert platform.processes[0].returncode == -SIGTERM


def test_ranks_do_not_outlive_a_controller_that_fails(paths: RunPaths) -> None:
    class Failing(Shell):
        def forward_signal(self, number: int, processes: list[Any]) -> float:
            raise OSError(28, "No space left on device")

    platform = Failing([f"exec sleep {TOO_LONG_S}"] * 2, signals={"start": SIGTERM})

    with pytest.raises(OSError, match="No space"), stop_signals() as received:
        run_attempt(paths, platform, LIMITS, received)

    assert [process.returncode for process in platform.processes] == [-SIGTERM, -SIGTERM]
    assert not paths.lease.exists()


def local_machine(paths: RunPaths, *command: str) -> LocalMachine:
    records.write_json(paths.plan, {"num_tasks": 2, "resources": {"limit": "UNLIMITED"}})
    return LocalMachine(paths, command, job_id="7", array=None, at_once=1)


def test_a_rank_does_not_outlive_the_start_of_the_next_that_fails(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = local_job.shell.start, list[Any]()

    def start_one(*arguments: Any, **options: Any) -> Any:
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(start(*arguments, **options))
        return started[0]

    monkeypatch.setattr(local_job.shell, "start", start_one)

    with pytest.raises(BlockingIOError):
        local_machine(paths, "sleep", str(TOO_LONG_S)).start({"PATH": "/usr/bin:/bin"})

    assert started[0].returncode == -SIGTERM


@pytest.mark.parametrize(
    ("numbers", "circumstance"),
    [([SIGUSR2], NOTHING), ([SIGUSR2, SIGTERM], CANCELLED), ([SIGTERM, SIGUSR2], CANCELLED)],
)
def test_a_local_run_that_was_told_to_end_is_cancelled_whatever_else_it_is_told(
    paths: RunPaths, numbers: list[int], circumstance: object
) -> None:
    machine = local_machine(paths)

    for number in numbers:
        machine.forward_signal(number, [])

    assert machine.circumstance() == circumstance


def test_a_slurm_job_that_was_terminated_stays_so_whatever_else_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "job_facts", lambda _: None)
    monkeypatch.setattr(commands, "hostnames", lambda _: ())
    monkeypatch.setattr(commands, "kill_wait_s", lambda: 30.0)
    batch = SlurmBatch([], {"SLURM_JOB_ID": "7"})

    waits = [batch.forward_signal(number, []) for number in (SIGTERM, SIGUSR2)]

    assert batch.is_terminated
    assert waits[0] < 30.0 < waits[1]


def test_a_pool_passes_signals_on_in_the_order_in_which_they_came() -> None:
    heard: list[int] = []

    class Listener:
        send_signal = staticmethod(heard.append)

    local_job._forward_signals([SIGUSR2, SIGTERM], {0: Listener()})  # type: ignore[dict-item]

    assert heard == [SIGUSR2, SIGTERM]
