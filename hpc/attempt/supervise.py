"""Carry one attempt: take the run, start its ranks, watch over them, judge the end, and say what follows.

The platform is Slurm's batch shell or this machine; the attempt is the same on both.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from hpc.attempt.decision import SUPERSEDED, Circumstance, Decision, Verdict, judge, stalled_reason
from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.base.shell import Process
from hpc.run import jobenv, lease
from hpc.run.history import AttemptRecord, Ledger
from hpc.run.lease import Lease
from hpc.run.paths import RunPaths

POLL_S = 0.2
PEER_GRACE_S = 5.0
FORWARDED = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


class Platform(Protocol):
    """What differs between a Slurm job and local processes."""

    name: str
    job_id: str
    array: str | None
    """The array of runs that this job is a task of."""
    nodes: tuple[str, ...]
    deadline: float | None
    """Epoch second at which the allocation ends."""

    def start(self, environ: Mapping[str, str]) -> list[Process]:
        """Start the ranks."""

    def pass_on(self, number: int, processes: list[Process]) -> float:
        """Let the ranks know of a signal to the batch side; return the seconds that it may wait for them."""

    def circumstance(self) -> Circumstance:
        """Say what the scheduler did to this attempt."""

    def is_running(self, job_id: str) -> bool | None:
        """Say whether a job is alive; None where there is nobody to ask."""


@dataclass(frozen=True)
class RetryLimits:
    """How long a run may go on by itself."""

    max_stalled: int
    max_attempts: int | None


def carry_attempt(paths: RunPaths, platform: Platform, limits: RetryLimits) -> Verdict:
    """Run one attempt to its end; the ledger holds the verdict before anything follows from it."""
    ledger = Ledger(paths.events)
    history = ledger.history()
    if history.finished:
        return Verdict("finished", Decision.FINISHED, f"it was finished before: {paths.report}")
    if history.is_cancelled and platform.job_id in history.job_ids:
        return Verdict("cancelled", Decision.STOP, "it was cancelled before this attempt began")
    mine = lease.new(attempt=len(history.attempts) + 1, job_id=platform.job_id)
    lease.take(paths.lease, mine, is_running=platform.is_running)
    with asked_to_stop() as wishes:
        try:
            _open_attempt(ledger, paths, platform, mine, limits)
            exit_code, is_superseded = _watch(paths, platform, mine, wishes)
            verdict = _judge(exit_code, is_superseded, platform, ledger, limits)
            if not is_superseded:
                _close_attempt(ledger, mine.attempt, exit_code, verdict)
        finally:
            lease.give_back(paths.lease, mine)
    return verdict


def _open_attempt(
    ledger: Ledger, paths: RunPaths, platform: Platform, mine: Lease, limits: RetryLimits
) -> None:
    history = ledger.history()
    if platform.job_id not in history.job_ids:
        ledger.append("submitted", job_id=platform.job_id, executor=platform.name, array=platform.array)
    ledger.close_lost_attempt(platform.job_id)
    reason = stalled_reason(ledger.history(), limits.max_stalled)
    if reason:
        what = f"{paths.case}/{paths.run_id} is not started again: {reason}"
        raise UserError(what, fix="submit it again to insist", exit_code=ExitCode.REFUSED)
    paths.stop_request.unlink(missing_ok=True)
    ledger.append(
        "attempt_started",
        attempt=mine.attempt,
        job_id=platform.job_id,
        nodes=list(platform.nodes),
        deadline=platform.deadline,
        host=mine.host,
    )


def _close_attempt(ledger: Ledger, attempt: int, exit_code: int, verdict: Verdict) -> None:
    last = ledger.history().last
    ledger.append(
        "attempt_ended",
        attempt=attempt,
        exit_code=exit_code,
        cause=verdict.cause,
        decision=verdict.decision.value,
        why=verdict.why,
        step=last.committed_step if last else None,
    )


def _watch(paths: RunPaths, platform: Platform, mine: Lease, wishes: list[int]) -> tuple[int, bool]:
    """Start the ranks and wait for them; return (exit code, whether another attempt took over)."""
    processes = platform.start(_environ(platform, mine))
    renewed = time.monotonic()
    leaves_at: float | None = None
    while (exit_code := _exit_code(processes)) is None:
        if wishes and leaves_at is None:
            records.write_json(paths.stop_request, {"attempt": mine.attempt})
            leaves_at = time.monotonic() + platform.pass_on(wishes[0], processes)
        if leaves_at is not None and time.monotonic() > leaves_at:
            return ExitCode.FAILED, False
        if time.monotonic() - renewed > lease.RENEW_S:
            renewed = time.monotonic()
            if not lease.renew(paths.lease, mine):
                _end(processes)
                return ExitCode.FAILED, True
        time.sleep(POLL_S)
    return exit_code, not lease.is_held(paths.lease, mine.token)


def _environ(platform: Platform, mine: Lease) -> dict[str, str]:
    environ = dict(os.environ)
    environ[jobenv.ATTEMPT] = str(mine.attempt)
    environ[jobenv.LEASE] = mine.token
    if platform.deadline is not None:
        environ[jobenv.DEADLINE] = f"{platform.deadline:.0f}"
    return environ


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """Collect the stop signals that arrive meanwhile; the old handlers come back afterwards."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda n, _frame: received.append(n)) for number in FORWARDED}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(processes: list[Process]) -> int | None:
    """Return the common exit code once all ranks have ended; one that fails takes the others with it."""
    codes = [process.poll() for process in processes]
    failed = [code for code in codes if code not in (None, ExitCode.OK, ExitCode.CONTINUE_LATER)]
    if failed and None in codes:
        _end(processes)
        codes = [process.wait() for process in processes]
    if None in codes:
        return None
    ended = [code for code in codes if code is not None]
    return failed[0] if failed and failed[0] is not None else max(ended)


def _end(processes: list[Process]) -> None:
    """Terminate what still runs, with a bound: ranks of a broken job may sit in a collective for ever."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    limit = time.monotonic() + PEER_GRACE_S
    while any(process.poll() is None for process in processes) and time.monotonic() < limit:
        time.sleep(POLL_S)
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def _judge(
    exit_code: int, is_superseded: bool, platform: Platform, ledger: Ledger, limits: RetryLimits
) -> Verdict:
    rows = ledger.rows()
    seen = SUPERSEDED if is_superseded else platform.circumstance()
    history = ledger.history()
    return judge(
        exit_code,
        circumstance=seen,
        stop_cause=_agreed_cause(rows, history.last),
        history=history,
        max_stalled=limits.max_stalled,
        max_attempts=limits.max_attempts,
    )


def _agreed_cause(rows: list[records.Row], attempt: AttemptRecord | None) -> str | None:
    causes = [
        row.get("cause")
        for row in rows
        if row.get("kind") == "stop_agreed" and attempt and row.get("attempt") == attempt.number
    ]
    return causes[-1] if causes else None
