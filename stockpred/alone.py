"""Train a case without the launcher: this process, or torchrun's, carries the attempt itself.

The launcher is only asked which runs the case means and where they lie; the run directories, the checkpoints
and the ledger are the same, so either may continue what the other began.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hpc import jobenv, lease
from hpc.errors import ExitCode, UserError
from hpc.jobenv import JobEnv
from hpc.ledger import Ledger
from hpc.paths import RunPaths
from stockpred.run import run_job

WAITING_S = 120.0
POLL_S = 0.1


def train_case(case: str, words: Sequence[str]) -> ExitCode:
    """Train every run of a case, one after the other; ``words`` are what ``hpc submit`` takes after the case.

    Returns the first exit code that is not OK; what was interrupted goes on when the command is given again.
    """
    env = JobEnv.read()
    for paths in _runs_of(case, words, env):
        if Ledger(paths.events).history().finished:
            sys.stdout.write(f"{paths.case}/{paths.run_id} was finished before: {paths.report}\n")
            continue
        exit_code = _train(paths, env)
        if exit_code != ExitCode.OK:
            return exit_code
    return ExitCode.OK


def _runs_of(case: str, words: Sequence[str], env: JobEnv) -> list[RunPaths]:
    """Let the launcher resolve the case for as many ranks as there are; rank 0 writes the run directories."""
    ranks = f"resources.nodes={env.num_nodes}", f"resources.gpus={env.local_world_size}"
    command = [sys.executable, "-m", "hpc", "write-runs", case, *words, *ranks]
    answer = subprocess.run(
        [*command, *([] if env.is_main else ["--names-only"])], stdout=subprocess.PIPE, text=True, check=False
    )
    if answer.returncode != 0:
        raise SystemExit(answer.returncode)  # the launcher has said why
    return [RunPaths(Path(line)) for line in answer.stdout.splitlines()]


def _train(paths: RunPaths, env: JobEnv) -> ExitCode:
    if not env.is_main:
        os.environ[jobenv.ATTEMPT] = str(_attempt_of_main(paths))
        return run_job(paths.root)
    with _attempt(paths) as end:
        exit_code = run_job(paths.root)
        end.append(exit_code)
    return exit_code


@contextmanager
def _attempt(paths: RunPaths) -> Iterator[list[ExitCode]]:
    """Hold the run and tell the ledger of one attempt; the body adds its exit code to the list."""
    ledger = Ledger(paths.events)
    mine = lease.new(attempt=len(ledger.history().attempts) + 1, job_id=_job_id())
    lease.take(paths.lease, mine, is_running=lambda _: None)
    os.environ |= {jobenv.ATTEMPT: str(mine.attempt), jobenv.LEASE: mine.token}
    paths.stop_wish.unlink(missing_ok=True)
    ledger.append("submitted", job_id=mine.job_id, executor="local")
    ledger.append("attempt_started", attempt=mine.attempt, job_id=mine.job_id, nodes=[], host=mine.host)
    end: list[ExitCode] = []
    try:
        yield end
    finally:
        exit_code = end[0] if end else ExitCode.FAILED
        cause, why = _ENDINGS.get(exit_code, ("failed", "the log above tells why"))
        ledger.append(
            "attempt_ended",
            attempt=mine.attempt,
            exit_code=exit_code,
            cause=cause,
            decision="finished" if exit_code == ExitCode.OK else "stop",
            why=why,
        )
        lease.give_back(paths.lease, mine)


_ENDINGS = {
    ExitCode.OK: ("finished", "training is done and the report is written"),
    ExitCode.CONTINUE_LATER: ("cancelled", "it was asked to stop; the same command continues it"),
}


def _attempt_of_main(paths: RunPaths) -> int:
    """Wait until rank 0 of this very start holds the run; return its attempt."""
    limit = time.monotonic() + WAITING_S
    while time.monotonic() < limit:
        holder = lease.read(paths.lease)
        if holder and holder.job_id == _job_id() and lease.is_alive(paths.lease, holder, lambda _: None):
            return holder.attempt
        time.sleep(POLL_S)
    raise UserError("rank 0 has not begun", where=str(paths.root), fix="read the log of rank 0")


def _job_id() -> str:
    """Name this start; torchrun's ranks share an address, a process alone has its number."""
    shared = [os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT") if name in os.environ]
    return ":".join(shared) or str(os.getpid())
