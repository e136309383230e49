"""Train a case without the launcher: this process, or torchrun's, begins and ends the attempts itself.

The launcher is only asked which runs the case means and when this allocation ends. The run directories, the
checkpoints, the ledger and the protocol of an attempt are the same, so either may continue the other's runs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.run import jobenv, lease
from hpc.run.decision import RetryLimits
from hpc.run.ending import CANCELLED, NOTHING, Circumstance
from hpc.run.history import Ledger
from hpc.run.jobenv import JobEnv
from hpc.run.lifecycle import open_attempt
from hpc.run.paths import RunPaths
from stockpred.run import PREPARING_S, run_job

POLL_S = 0.1
THIS_HOST = ("localhost", "127.0.0.1", "::1")
RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
"""How often torchrun, or Slurm, has started this command again by itself."""


@dataclass(frozen=True)
class StandaloneJob:
    """This command as the job of its attempts. ``requests`` are the stop signals that it has received."""

    job_id: str
    deadline: float | None
    is_new_submit: bool
    requests: list[int]
    executor: str = "local"
    array: str | None = None
    nodes: tuple[str, ...] = ()

    def circumstance(self) -> Circumstance:
        return CANCELLED if self.requests else NOTHING

    def is_running(self, job_id: str) -> bool | None:
        return None


@dataclass(frozen=True)
class Work:
    """What the launcher answers: the runs of the case, and when the allocation ends (None: never)."""

    runs: tuple[RunPaths, ...]
    deadline: float | None


def train_case(case: str, argv: Sequence[str]) -> ExitCode:
    """Train every run of a case, one after the other; ``argv`` chooses it as it does for ``hpc submit``.

    A run that fails does not keep the next from its turn. Asked to stop (Ctrl-C, TERM), the run at work saves
    and no other begins. Returns the exit code of the last run that did not end well.
    """
    env = JobEnv.read()
    if "--fresh" in argv and env.world_size > 1:
        fix = "leave it out, or let `hpc submit --fresh` start the ranks"
        raise UserError("--fresh and several ranks: each would look for the newest run itself", fix=fix)
    worst = ExitCode.OK
    with _stop_requests() as requests:
        work = _ask_launcher(case, argv, env)
        for paths in work.runs:
            if requests:
                return ExitCode.INTERRUPTED
            if Ledger(paths.events).history().finished:
                sys.stdout.write(f"{paths.case}/{paths.run_id} was finished before: {paths.report}\n")
                continue
            exit_code = _train(paths, env, work.deadline, requests)
            _listen(requests)
            if exit_code == ExitCode.CONTINUE_LATER:
                return ExitCode.INTERRUPTED
            worst = worst if exit_code == ExitCode.OK else exit_code
    return worst


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collect the stop signals, whichever run is at work; the old handlers come back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    requests: list[int] = []
    _listen(requests)
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(requests: list[int]) -> None:
    """Take TERM as a stop request, and the first Ctrl-C as TERM; a second one ends the process."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda number, _frame: requests.append(number))
    signal.signal(signal.SIGINT, interrupt)


def _ask_launcher(case: str, argv: Sequence[str], env: JobEnv) -> Work:
    """Let the launcher resolve the case for as many ranks as there are; rank 0 writes the run directories."""
    ranks = f"resources.nodes={env.num_nodes}", f"resources.gpus={env.local_world_size}"
    command = [sys.executable, "-m", "hpc", "write-runs", case, *argv, *ranks]
    quietly = [] if env.is_main else ["--names-only"]
    stderr = None if env.is_main else subprocess.DEVNULL  # rank 0 prints a mistake once
    answer = subprocess.run(
        [*command, *quietly], stdout=subprocess.PIPE, stderr=stderr, text=True, check=False
    )
    if answer.returncode != 0:
        raise SystemExit(answer.returncode)  # the launcher has said why
    row = json.loads(answer.stdout)
    return Work(tuple(RunPaths(Path(run)) for run in row["runs"]), row["deadline"])


def _train(paths: RunPaths, env: JobEnv, deadline: float | None, requests: list[int]) -> ExitCode:
    """Run one attempt on this rank; rank 0 holds the run, opens the attempt and closes it."""
    with _logged(paths.rank_log(env.rank)):
        if not env.is_main:
            os.environ[jobenv.ATTEMPT] = str(_attempt_of_main(paths))
            if deadline is not None:
                os.environ[jobenv.DEADLINE] = f"{deadline:.0f}"
            return run_job(paths.root)
        job = StandaloneJob(_job_id(), deadline, not _is_restarted(), requests)
        limits = RetryLimits.of(records.read_json(paths.plan), starts_again=False)
        with open_attempt(paths, job, limits) as attempt, lease.kept_alive(paths.lease, attempt.lease):
            os.environ |= attempt.environ
            exit_code = ExitCode.INTERRUPTED  # by a second Ctrl-C
            try:
                exit_code = run_job(paths.root)
            finally:
                attempt.close(exit_code)
        return exit_code


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
    """Wait until rank 0 of this command holds the run; return its attempt."""
    limit = time.monotonic() + PREPARING_S  # rank 0 may be testing the run before
    while time.monotonic() < limit:
        holder = lease.read(paths.lease)
        if holder and holder.job_id == _job_id() and lease.is_alive(paths.lease, holder, lambda _: None):
            return holder.attempt
        time.sleep(POLL_S)
    raise UserError("rank 0 has not begun", where=str(paths.root), fix="read the log of rank 0")


def _is_restarted() -> bool:
    """Say whether torchrun or Slurm started this command again, and not a person."""
    return any(int(os.environ.get(name, "0")) > 0 for name in RESTARTS)


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
