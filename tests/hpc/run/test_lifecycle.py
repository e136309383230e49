"""The protocol of an attempt, which every executor and training without the launcher go through."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hpc.attempt.slurm_job import allocation_end
from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.run import jobenv, lease
from hpc.run.decision import RetryLimits
from hpc.run.ending import CANCELLED, NOTHING, Cause, Circumstance, Decision
from hpc.run.history import Ledger
from hpc.run.jobenv import JobEnv
from hpc.run.lifecycle import open_attempt
from hpc.run.paths import RunPaths
from stockpred.standalone import StandaloneJob

LIMITS = RetryLimits(max_stalled=2, max_attempts=None)


@dataclass(frozen=True)
class Job:
    """A job whose scheduler says what a test wants to hear."""

    job_id: str = "7"
    executor: str = "slurm"
    array: str | None = None
    nodes: tuple[str, ...] = ("n1",)
    deadline: float | None = None
    is_new_submit: bool = False
    seen: Circumstance = NOTHING

    def circumstance(self) -> Circumstance:
        return self.seen

    def is_running(self, job_id: str) -> bool | None:
        return None


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    root = tmp_path / "runs" / "toy" / "one"
    root.mkdir(parents=True)
    return RunPaths(root)


def attempt(paths: RunPaths, job: Job | StandaloneJob, code: int, limits: RetryLimits = LIMITS) -> Decision:
    with open_attempt(paths, job, limits) as opened:
        return opened.close(code).decision


def kinds(paths: RunPaths) -> list[str]:
    return [row["kind"] for row in Ledger(paths.events).rows()]


def test_an_attempt_without_the_launcher_leaves_the_events_of_one_with_it(paths: RunPaths) -> None:
    standalone = RunPaths(paths.root.with_name("two"))
    standalone.root.mkdir()

    attempt(paths, Job(), ExitCode.FAILED)
    attempt(standalone, StandaloneJob("7", None, True, []), ExitCode.FAILED)

    assert kinds(paths) == kinds(standalone) == ["submitted", "attempt_started", "attempt_ended"]
    ours, theirs = (Ledger(one.events).rows()[-1] for one in (standalone, paths))
    assert ours.keys() == theirs.keys()
    assert ours["cause"] == theirs["cause"] == "crashed with exit code 1"
    assert not paths.lease.exists()
    assert not standalone.lease.exists()


def test_without_the_launcher_nobody_starts_the_next_attempt(paths: RunPaths) -> None:
    job = StandaloneJob("7", None, True, [])

    assert attempt(paths, job, ExitCode.FAILED, replace(LIMITS, starts_again=False)) is Decision.STOP


def test_a_stop_signal_without_the_launcher_cancels_the_run(paths: RunPaths) -> None:
    job = StandaloneJob("7", None, True, [15])

    attempt(paths, job, ExitCode.CONTINUE_LATER, replace(LIMITS, starts_again=False))

    last = Ledger(paths.events).history().last
    assert last is not None
    assert (last.cause, last.decision) == (Cause.CANCELLED, Decision.STOP)


def test_a_command_that_restarts_by_itself_without_progress_is_refused_until_a_person_insists(
    paths: RunPaths,
) -> None:
    by_person = StandaloneJob("host:29500", None, True, [])
    restarted = replace(by_person, is_new_submit=False)
    limits = replace(LIMITS, starts_again=False)
    attempt(paths, by_person, ExitCode.FAILED, limits)
    attempt(paths, restarted, ExitCode.FAILED, limits)

    with pytest.raises(UserError, match="committed no new step"):
        attempt(paths, restarted, ExitCode.FAILED, limits)

    assert not paths.lease.exists()
    assert attempt(paths, by_person, ExitCode.FAILED, limits) is Decision.STOP


def test_the_lease_tells_who_carries_the_job(paths: RunPaths) -> None:
    with open_attempt(paths, Job(executor="local"), LIMITS):
        holder = lease.read(paths.lease)

    assert holder is not None
    assert (holder.job_id, holder.executor) == ("7", "local")


def test_ranks_find_attempt_lease_and_deadline_in_their_environment(paths: RunPaths) -> None:
    with open_attempt(paths, Job(deadline=1234.0), LIMITS) as opened:
        env = JobEnv.read(opened.environ)

        assert (env.attempt, env.deadline) == (1, 1234.0)
        assert env.lease is not None
        assert lease.is_held(paths.lease, env.lease)
    with open_attempt(paths, Job(), LIMITS) as opened:
        assert jobenv.DEADLINE not in opened.environ


@pytest.mark.parametrize(("job_id", "cause"), [("7", Cause.REQUEUED), ("8", Cause.LOST)])
def test_an_attempt_whose_end_was_not_recorded_is_closed_by_the_next(
    paths: RunPaths, job_id: str, cause: Cause
) -> None:
    with open_attempt(paths, Job("7"), LIMITS):
        pass

    with open_attempt(paths, Job(job_id), LIMITS) as opened:
        assert opened.number == 2

    first, second = Ledger(paths.events).history().attempts
    assert first.cause == cause
    assert second.ended is None


def test_an_attempt_that_lost_its_run_records_nothing(paths: RunPaths) -> None:
    with open_attempt(paths, Job(), LIMITS) as opened:
        taken = {**records.read_json(paths.lease), "token": "another"}
        records.write_json(paths.lease, taken)
        ending = opened.close(ExitCode.OK)

    assert ending.decision is Decision.LEAVE
    assert "attempt_ended" not in kinds(paths)
    assert records.read_json(paths.lease)["token"] == "another"


def test_the_run_is_released_when_the_work_raises(paths: RunPaths) -> None:
    with pytest.raises(KeyboardInterrupt), open_attempt(paths, Job(seen=CANCELLED), LIMITS):
        raise KeyboardInterrupt

    assert not paths.lease.exists()


def test_the_allocations_end_is_what_slurm_says_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = tmp_path / "scontrol"
    answer.write_text('#!/bin/sh\necho "JobId=$4 JobState=RUNNING Reason=None EndTime=1970-01-02T00:00:00"\n')
    answer.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("TZ", "UTC0")

    assert allocation_end({}) is None
    end = allocation_end({"SLURM_JOB_ID": "7"})
    assert end is not None
    assert abs(end - 86400) <= 14 * 3600  # whatever the time zone of this process
