"""An attempt from its beginning to its end: hold the run, open the attempt in the ledger, judge and close it.

Every attempt passes through here, whoever carries it: Slurm's batch shell, the controller of this machine, or
a process that trains without the launcher.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from hpc.base.errors import ExitCode, UserError
from hpc.run import jobenv, lease
from hpc.run.decision import RetryLimits, ended_before, judge, stalled_reason
from hpc.run.ending import SUPERSEDED, Cause, Circumstance, Decision, Ending
from hpc.run.history import Executor, Ledger
from hpc.run.lease import Lease
from hpc.run.paths import RunPaths


class Job(Protocol):
    """What an attempt needs to know of the job that carries it."""

    @property
    def executor(self) -> str:
        """The name of an ``Executor``."""

    @property
    def job_id(self) -> str: ...

    @property
    def array(self) -> str | None:
        """The array of runs that this job is a task of."""

    @property
    def nodes(self) -> tuple[str, ...]: ...

    @property
    def deadline(self) -> float | None:
        """Epoch second at which the allocation ends."""

    @property
    def is_new_submit(self) -> bool:
        """Whether a person began this job without a submit, which is then recorded as one."""

    def circumstance(self) -> Circumstance:
        """Say what the scheduler, or a person, did to this attempt."""

    def is_running(self, job_id: str) -> bool | None:
        """Say whether a job is alive; None where there is no scheduler to ask."""


@dataclass(frozen=True)
class OpenAttempt:
    """An attempt that holds its run and is open in the ledger."""

    paths: RunPaths
    job: Job
    lease: Lease
    limits: RetryLimits

    @property
    def number(self) -> int:
        return self.lease.attempt

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which ranks find their attempt."""
        deadline = self.job.deadline
        return {
            jobenv.ATTEMPT: str(self.number),
            jobenv.LEASE: self.lease.token,
            **({} if deadline is None else {jobenv.DEADLINE: f"{deadline:.0f}"}),
        }

    def close(self, exit_code: int) -> Ending:
        """Judge the attempt and record its end; an attempt that lost the run leaves the ledger alone."""
        ledger = Ledger(self.paths.events)
        is_superseded = not lease.is_held(self.paths.lease, self.lease.token)
        circumstance = SUPERSEDED if is_superseded else self.job.circumstance()
        history = ledger.history()
        ending = judge(
            exit_code,
            circumstance=circumstance,
            stop_cause=history.last.stop_cause if history.last else None,
            history=history,
            limits=self.limits,
        )
        if not is_superseded:
            ledger.append(
                "attempt_ended",
                attempt=self.number,
                exit_code=int(exit_code),
                cause=str(ending.cause),
                decision=ending.decision.value,
                why=ending.why,
                step=history.last.committed_step if history.last else None,
            )
        return ending


class RunIsOver(UserError):
    """No attempt may begin, because the run is over: ``ending`` says how."""

    def __init__(self, ending: Ending) -> None:
        fix = "submit the run again to continue it"
        super().__init__(f"no attempt begins: {ending.why}", fix=fix, exit_code=ExitCode.REFUSED)
        self.ending = ending


@contextmanager
def open_attempt(
    paths: RunPaths, job: Job, limits: RetryLimits, *, job_end: ExitStack | None = None
) -> Iterator[OpenAttempt]:
    """Hold the run and begin its next attempt; the lease is released at the end, closed or not.

    ``job_end`` is the end of a job that begins the next attempt itself: it holds the run until then, so that
    nobody finds the run free between two attempts. Raises UserError where another job holds the run, or too
    many attempts made no progress, and RunIsOver where the run was finished or cancelled before.
    """
    history = Ledger(paths.events).history()
    mine = lease.new(attempt=len(history.attempts) + 1, job_id=job.job_id, executor=job.executor)
    with ExitStack() as attempt_end:
        lease.take(paths.lease, mine, is_running=job.is_running)
        (job_end or attempt_end).callback(lease.release, paths.lease, mine)
        _refuse_if_over(paths, job)
        _record_start(paths, job, mine, limits)
        yield OpenAttempt(paths, job, mine, limits)


def _refuse_if_over(paths: RunPaths, job: Job) -> None:
    """Raise where the run is over, unless a person begins it anew.

    Called with the lease in hand: a cancel is either found in the ledger, or finds the holder.
    """
    ending = None if job.is_new_submit else ended_before(Ledger(paths.events).history(), job.job_id)
    if ending is not None:
        raise RunIsOver(ending)


def _record_start(paths: RunPaths, job: Job, mine: Lease, limits: RetryLimits) -> None:
    ledger = Ledger(paths.events)
    _close_lost_attempt(ledger, job)
    if job.is_new_submit or job.job_id not in ledger.history().job_ids:
        ledger.append("submitted", job_id=job.job_id, executor=job.executor, array=job.array)
    reason = stalled_reason(ledger.history(), limits.max_stalled)
    if reason:
        what = f"{paths.case}/{paths.run_id} is not started again: {reason}"
        raise UserError(what, fix="submit it again to insist", exit_code=ExitCode.REFUSED)
    paths.stop_request.unlink(missing_ok=True)
    ledger.append(
        "attempt_started",
        attempt=mine.attempt,
        job_id=job.job_id,
        nodes=list(job.nodes),
        deadline=job.deadline,
        host=mine.host,
    )


def _close_lost_attempt(ledger: Ledger, job: Job) -> None:
    """Record the end of an attempt whose batch side died before it could.

    When the same Slurm job starts again, Slurm requeued it: a node failed, or a preemption left no time.
    """
    last = ledger.history().last
    if last is None or last.ended is not None:
        return
    is_requeued = job.executor == Executor.SLURM and last.job_id == job.job_id
    ledger.append(
        "attempt_ended",
        attempt=last.number,
        exit_code=None,
        cause=str(Cause.REQUEUED if is_requeued else Cause.LOST),
        decision=str(Decision.CONTINUE),
        why="the process that carried it ended before it could record the end",
    )
