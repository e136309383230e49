"""Run one attempt: start its ranks, watch over them, end them where necessary, and close the attempt.

The platform is Slurm's batch shell or this machine; the attempt is the same on both.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Protocol

from hpc.base import records
from hpc.base.errors import ExitCode
from hpc.base.shell import Process
from hpc.run import lease
from hpc.run.decision import RetryLimits
from hpc.run.ending import Decision, Ending
from hpc.run.lifecycle import Job, OpenAttempt, RunIsOver, open_attempt
from hpc.run.paths import RunPaths

POLL_S = 0.2
PEER_GRACE_S = 5.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


class Platform(Job, Protocol):
    """A job that starts the ranks of its attempts: what differs between Slurm and this machine."""

    def start(self, environ: Mapping[str, str]) -> list[Process]:
        """Start the ranks."""

    def forward_signal(self, number: int, processes: list[Process]) -> float:
        """Tell the ranks of a signal to the batch side; return the seconds that it may wait for them.

        Called for each signal, also for one that arrives when no rank is left.
        """


def run_attempt(
    paths: RunPaths,
    platform: Platform,
    limits: RetryLimits,
    received: list[int],
    *,
    job_end: ExitStack | None = None,
) -> Ending:
    """Run one attempt to its end, which the ledger holds before anything follows from it.

    ``received`` are the ``stop_signals`` of the job; those that are acted on are taken out. A job that
    carries several attempts holds the run until its own end, ``job_end``.
    """
    try:
        with open_attempt(paths, platform, limits, job_end=job_end) as attempt:
            exit_code = _run_ranks(attempt, platform, received)
            return _close(attempt, platform, exit_code, received)
    except RunIsOver as over:
        return over.ending


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect the stop signals that arrive meanwhile; the old handlers come back afterwards."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda n, _frame: received.append(n)) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_ranks(attempt: OpenAttempt, platform: Platform, received: list[int]) -> int:
    """Start the ranks and wait for them; whatever goes wrong here, they do not outlive the lease."""
    processes = platform.start({**os.environ, **attempt.environ})
    try:
        return _watch(attempt, platform, processes, received)
    except BaseException:
        end(processes)
        raise


def _watch(attempt: OpenAttempt, platform: Platform, processes: list[Process], received: list[int]) -> int:
    """Wait for the ranks; return their exit code, FAILED where they had to be given up."""
    renewed = time.monotonic()
    leaves_at = math.inf
    while (exit_code := _exit_code(processes)) is None:
        while received:
            records.write_json(attempt.paths.stop_request, {"attempt": attempt.number})
            may_take_s = platform.forward_signal(received.pop(0), processes)
            leaves_at = min(leaves_at, time.monotonic() + may_take_s)
        if time.monotonic() > leaves_at:
            return ExitCode.FAILED
        if time.monotonic() - renewed > lease.RENEW_S:
            renewed = time.monotonic()
            if not lease.renew(attempt.paths.lease, attempt.lease):
                end(processes)
                return ExitCode.FAILED
        time.sleep(POLL_S)
    return exit_code


def _close(attempt: OpenAttempt, platform: Platform, exit_code: int, received: list[int]) -> Ending:
    """Judge and record the end; a signal that arrives meanwhile may end the run, so it is judged again."""
    while True:
        while received:
            platform.forward_signal(received.pop(0), [])
        ending = attempt.close(exit_code)
        if ending.decision is not Decision.CONTINUE or not received:
            return ending


def _exit_code(processes: list[Process]) -> int | None:
    """Return the common exit code once all ranks have ended; when one fails, the others are ended too."""
    codes = [process.poll() for process in processes]
    failed = [code for code in codes if code not in (None, ExitCode.OK, ExitCode.CONTINUE_LATER)]
    if failed and None in codes:
        end(processes)
        codes = [process.wait() for process in processes]
    if None in codes:
        return None
    ended = [code for code in codes if code is not None]
    return failed[0] if failed and failed[0] is not None else max(ended)


def end(processes: list[Process]) -> None:
    """Terminate what still runs, then kill it: ranks of a broken job may wait in a collective for ever."""
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
