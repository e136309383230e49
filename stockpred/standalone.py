"""Train a case without the launcher: this process, or torchrun's, carries the attempts itself.

The launcher is only asked which runs the case means and where they lie; the run directories, the checkpoints
and the ledger are the same, so either may continue what the other began.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from hpc.base.errors import ExitCode, UserError
from hpc.run import jobenv, lease
from hpc.run.history import Ledger
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from stockpred.run import PREPARING_S, run_job

POLL_S = 0.1
THIS_HOST = ("localhost", "127.0.0.1", "::1")
ENDINGS = {
    ExitCode.OK: ("finished", "training is done and the report is written"),
    ExitCode.CONTINUE_LATER: ("cancelled", "it was asked to stop; the same command continues it"),
}


def train_case(case: str, words: Sequence[str]) -> ExitCode:
    """Train every run of a case, one after the other; ``words`` choose it as they do for ``hpc submit``.

    A run that fails does not keep the next from its turn. Asked to stop (Ctrl-C, TERM), the run at work saves
    and no other begins. Returns the exit code of the last run that did not end well.
    """
    env = JobEnv.read()
    if "--fresh" in words and env.world_size > 1:
        fix = "leave it out, or let `hpc submit --fresh` start the ranks"
        raise UserError("--fresh and several ranks: each would look for the newest run itself", fix=fix)
    worst = ExitCode.OK
    with _told_to_stop() as wishes:
        for paths in _runs_of(case, words, env):
            if wishes:
                return ExitCode.INTERRUPTED
            if Ledger(paths.events).history().finished:
                sys.stdout.write(f"{paths.case}/{paths.run_id} was finished before: {paths.report}\n")
                continue
            exit_code = _train(paths, env)
            _listen(wishes)
            if exit_code == ExitCode.CONTINUE_LATER:
                return ExitCode.INTERRUPTED
            worst = worst if exit_code == ExitCode.OK else exit_code
    return worst


@contextmanager
def _told_to_stop() -> Iterator[list[int]]:
    """Collect the wishes to stop, whichever run is at work; the old handlers come back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    wishes: list[int] = []
    _listen(wishes)
    try:
        yield wishes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(wishes: list[int]) -> None:
    """Take TERM as a wish, and the first Ctrl-C as TERM; a second one ends the process."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda number, _frame: wishes.append(number))
    signal.signal(signal.SIGINT, interrupt)


def _runs_of(case: str, words: Sequence[str], env: JobEnv) -> list[RunPaths]:
    """Let the launcher resolve the case for as many ranks as there are; rank 0 writes the run directories."""
    ranks = f"resources.nodes={env.num_nodes}", f"resources.gpus={env.local_world_size}"
    command = [sys.executable, "-m", "hpc", "write-runs", case, *words, *ranks]
    quietly = [] if env.is_main else ["--names-only"]
    stderr = None if env.is_main else subprocess.DEVNULL  # a mistake is told once
    answer = subprocess.run(
        [*command, *quietly], stdout=subprocess.PIPE, stderr=stderr, text=True, check=False
    )
    if answer.returncode != 0:
        raise SystemExit(answer.returncode)  # the launcher has said why
    return [RunPaths(Path(line)) for line in answer.stdout.splitlines()]


def _train(paths: RunPaths, env: JobEnv) -> ExitCode:
    with _logged(paths.rank_log(env.rank)):
        if not env.is_main:
            os.environ[jobenv.ATTEMPT] = str(_attempt_of_main(paths))
            return run_job(paths.root)
        with _attempt(paths) as end:
            end.append(run_job(paths.root))
        return end[0]


@contextmanager
def _attempt(paths: RunPaths) -> Iterator[list[ExitCode]]:
    """Hold the run and tell the ledger of one attempt; the body adds its exit code to the list."""
    ledger = Ledger(paths.events)
    mine = lease.new(attempt=len(ledger.history().attempts) + 1, job_id=_job_id())
    lease.take(paths.lease, mine, is_running=lambda _: None)
    os.environ |= {jobenv.ATTEMPT: str(mine.attempt), jobenv.LEASE: mine.token}
    paths.stop_request.unlink(missing_ok=True)
    ledger.close_lost_attempt(mine.job_id)
    ledger.append("submitted", job_id=mine.job_id, executor="local")
    ledger.append("attempt_started", attempt=mine.attempt, job_id=mine.job_id, nodes=[], host=mine.host)
    end: list[ExitCode] = []
    try:
        with _renewed(paths.lease, mine):
            yield end
    finally:
        exit_code = end[0] if end else ExitCode.FAILED
        cause, why = ENDINGS.get(exit_code, ("failed", "the log tells why"))
        ledger.append(
            "attempt_ended",
            attempt=mine.attempt,
            exit_code=exit_code,
            cause=cause,
            decision="finished" if exit_code == ExitCode.OK else "stop",
            why=why,
        )
        lease.give_back(paths.lease, mine)


@contextmanager
def _renewed(path: Path, mine: lease.Lease) -> Iterator[None]:
    """Leave signs of life, by which other machines know that the run is held."""
    is_over = threading.Event()

    def renew() -> None:
        while not is_over.wait(lease.RENEW_S):
            lease.renew(path, mine)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


class _Tee(io.TextIOBase):
    """Writes to a stream and to a log."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log = stream, log

    def write(self, text: str) -> int:
        self.log.write(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.log.flush()
        self.stream.flush()


@contextmanager
def _logged(log: Path) -> Iterator[None]:
    """Keep in the rank's log what this process prints."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", buffering=1) as file,
        contextlib.redirect_stdout(_Tee(sys.stdout, file)),
        contextlib.redirect_stderr(_Tee(sys.stderr, file)),
    ):
        yield


def _attempt_of_main(paths: RunPaths) -> int:
    """Wait until rank 0 of this very start holds the run; return its attempt."""
    limit = time.monotonic() + PREPARING_S  # rank 0 may be testing the run before
    while time.monotonic() < limit:
        holder = lease.read(paths.lease)
        if holder and holder.job_id == _job_id() and lease.is_alive(paths.lease, holder, lambda _: None):
            return holder.attempt
        time.sleep(POLL_S)
    raise UserError("rank 0 has not begun", where=str(paths.root), fix="read the log of rank 0")


def _job_id() -> str:
    """Name this start: a Slurm step, the address that torchrun's ranks share, or this process."""
    environ = os.environ
    if "SLURM_JOB_ID" in environ and "SLURM_STEP_ID" in environ:
        return f"{environ['SLURM_JOB_ID']}.{environ['SLURM_STEP_ID']}"
    if "MASTER_ADDR" in environ and "MASTER_PORT" in environ:
        address = environ["MASTER_ADDR"]
        host = socket.gethostname() if address in THIS_HOST else address
        return f"{host}:{environ['MASTER_PORT']}"
    return str(os.getpid())
