"""Who holds a local run, and who answers for it, from its place in a pool to the end of its job."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hpc.attempt import local_job, submit
from hpc.attempt.local_job import LocalMachine, LocalPool, LocalRun
from hpc.base import records
from hpc.base.shell import Process
from hpc.monitor import status
from hpc.monitor.status import RunState, Watcher
from hpc.run import lease
from hpc.run.find import open_run
from hpc.run.history import Ledger
from hpc.run.paths import LAYOUT, RunPaths
from hpc.slurm.commands import RecentQueue

LONG_AGO = 1000.0
"""Epoch second of a submit whose processes have had their time to start."""


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    """Return a run of one rank that was submitted long ago, as task 0 of pool 7."""
    monkeypatch.delenv("SUBMITIT_LOCAL_JOB_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    paths = RunPaths(tmp_path / "runs" / "toy" / "one")
    plan = {
        "layout": LAYOUT,
        "num_tasks": 1,
        "resources": {"limit": "UNLIMITED"},
        "retry": {"max_stalled_attempts": 9, "max_attempts": None},
    }
    records.write_json(paths.plan, plan)
    submitted = {"kind": "submitted", "job_id": "7_0", "executor": "local", "array": "all", "time": LONG_AGO}
    records.append_row(paths.events, submitted)
    return paths


@pytest.fixture
def waiting_process() -> Iterator[Process]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def write_pool(paths: RunPaths, *waiting: str) -> None:
    """Write the runs that pool 7, which this process carries, has yet to begin."""
    array = paths.array("all")
    LocalPool(array.root, array.root, (), (), 1, (None,))._publish(array, "7", waiting)


def begin(paths: RunPaths, number: int) -> lease.Lease:
    mine = lease.new(attempt=number, job_id="7_0")
    lease.take(paths.lease, mine, is_running=lambda _: None)
    Ledger(paths.events).append("attempt_started", attempt=number, job_id="7_0", nodes=[])
    return mine


def end(paths: RunPaths, mine: lease.Lease) -> None:
    ledger = Ledger(paths.events)
    ledger.append("finished", attempt=mine.attempt)
    ledger.append("attempt_ended", attempt=mine.attempt, exit_code=0, cause="finished", decision="finished")
    lease.release(paths.lease, mine)


def before(read: Callable[..., Any], act: Callable[[], Any]) -> Callable[..., Any]:
    """Return ``read`` with something that happens right before its first call."""
    to_come = [act]

    def acted(*arguments: Any) -> Any:
        if to_come:
            to_come.pop()()
        return read(*arguments)

    return acted


def test_a_local_run_is_held_between_its_attempts(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    class Observed(LocalMachine):
        """Three attempts, the last of which finishes the run; each looks at the lease before it begins."""

        held_by: ClassVar[list[int | None]] = []

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            holder = local_job.local_holder(self.paths)
            self.held_by.append(holder and holder.attempt)

        def start(self, environ: Mapping[str, str]) -> list[Process]:
            number = len(self.held_by)
            Ledger(self.paths.events).append("checkpoint", attempt=number, step=number)
            if number == 3:
                Ledger(self.paths.events).append("finished", attempt=number)
            return [subprocess.Popen(["sh", "-c", "exit 0" if number == 3 else "exit 85"])]

    monkeypatch.setattr(local_job, "LocalMachine", Observed)

    assert LocalRun(paths.root, paths.root, (), gpus=None)() == "finished"

    assert Observed.held_by == [None, 1, 2]
    assert not paths.lease.exists()


def test_a_run_that_ends_while_it_is_looked_at_is_not_lost(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = begin(paths, 1)
    read = before(status.local_holder, lambda: end(paths, mine))
    monkeypatch.setattr(status, "local_holder", read)

    (view,) = Watcher().look([open_run(paths)])

    assert view.state is RunState.FINISHED


def test_a_run_without_a_holder_is_lost(paths: RunPaths) -> None:
    lease.release(paths.lease, begin(paths, 1))

    (view,) = Watcher().look([open_run(paths)])

    assert view.state is RunState.LOST


def test_a_run_that_ends_while_it_is_submitted_again_is_not_continued(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = begin(paths, 1)
    read = before(submit.local_holder, lambda: end(paths, mine))
    monkeypatch.setattr(submit, "local_holder", read)

    assert submit._result(paths, RecentQueue(), limit=0.0) is submit.SubmitResult.FINISHED


def test_a_pool_answers_for_a_run_until_its_process_holds_it(
    paths: RunPaths, waiting_process: Process
) -> None:
    array = paths.array("all")

    assert local_job._has_yet_to_begin(array, "one", waiting_process)

    begin(paths, 1)
    assert not local_job._has_yet_to_begin(array, "one", waiting_process)


def test_a_pool_does_not_answer_for_a_process_that_has_ended(
    paths: RunPaths, waiting_process: Process
) -> None:
    waiting_process.kill()
    waiting_process.wait()

    assert not local_job._has_yet_to_begin(paths.array("all"), "one", waiting_process)


def test_a_run_that_leaves_its_pool_to_begin_is_seen_in_one_of_the_two_places(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pool(paths, "one")
    reads: list[str] = []

    def watched(name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        """Let the run begin between the first reading, whichever that is, and the second."""

        def read_then_begin(*arguments: Any) -> Any:
            found = read(*arguments)
            reads.append(name)
            if len(reads) == 1:
                begin(paths, 1)
                write_pool(paths)
            return found

        return read_then_begin

    monkeypatch.setattr(status, "waits_in_pool", watched("pool", status.waits_in_pool))
    monkeypatch.setattr(status, "local_holder", watched("lease", status.local_holder))

    evidence = status._evidence(open_run(paths), None, queue_is_known=False)

    assert sorted(reads) == ["lease", "pool"]
    assert evidence.waits_in_pool or evidence.is_alive_here
