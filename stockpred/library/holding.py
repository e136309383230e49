"""A checkpoint folder while one training writes into it: the lease, the ledger, the wish to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hpc.base.errors import ExitCode, UserError
from hpc.run import lease
from hpc.run.history import Ledger
from hpc.run.lease import Lease
from hpc.run.paths import RunPaths
from hpc.run.stop import STOP_SIGNALS, Stop
from stockpred.train.distributed import Group

PATIENCE_S = 10.0
"""How long a rank of a training that was killed may take to notice it."""
POLL_S = 0.1


@dataclass(frozen=True)
class Held:
    """A folder that this training may write into; ``check_lease`` raises when it no longer may."""

    paths: RunPaths
    ledger: Ledger
    stop: Stop
    group: Group
    check_lease: Callable[[], None]


@contextmanager
def held(folder: Path, group: Group) -> Iterator[Held]:
    """Hold a folder on behalf of all ranks. Collective; the first rank holds, and the others write nothing.

    Raises UserError on every rank while another training is at work there.
    """
    paths = RunPaths(folder)
    mine, refusal = _take(paths) if group.is_main else (None, None)
    number, refusal = group.from_main((mine.attempt if mine else 0, refusal))
    if refusal is not None:
        raise UserError(refusal, where=str(folder), fix="wait for it to end, or take another checkpoint_dir")
    own_group = replace(group, env=replace(group.env, attempt=number))
    stop = Stop(deadline=group.env.deadline, wish_file=None, attempt=number)
    check = partial(lease.check, paths.lease, mine.token) if mine else _is_not_asked
    with _listening(stop), _attempt_of(paths, mine):
        yield Held(paths, Ledger(paths.events), stop, own_group, check)


def _is_not_asked() -> None:
    """Let a rank that writes nothing pass."""


def _take(paths: RunPaths) -> tuple[Lease | None, str | None]:
    """Return the lease of a new attempt, or why there is none."""
    paths.root.mkdir(parents=True, exist_ok=True)
    mine = lease.new(attempt=len(Ledger(paths.events).history().attempts) + 1, job_id=str(os.getpid()))
    limit = time.monotonic() + PATIENCE_S
    while True:
        try:
            lease.take(paths.lease, mine, is_running=lambda _: None)
        except UserError as error:
            if time.monotonic() > limit:
                return None, error.what
            time.sleep(POLL_S)
        else:
            return mine, None


@contextmanager
def _attempt_of(paths: RunPaths, mine: Lease | None) -> Iterator[None]:
    """Tell the ledger when the attempt begins and how it ends; give signs of life in between."""
    if mine is None:
        yield
        return
    ledger = Ledger(paths.events)
    ledger.close_lost_attempt(mine.job_id)
    ledger.append("attempt_started", attempt=mine.attempt, job_id=mine.job_id, nodes=[], host=mine.host)
    cause, exit_code = "failed", ExitCode.FAILED
    try:
        with _renewed(paths.lease, mine):
            yield
        cause, exit_code = "finished", ExitCode.OK
    except SystemExit:
        cause, exit_code = "cancelled", ExitCode.CONTINUE_LATER
        raise
    finally:
        decision = "finished" if exit_code == ExitCode.OK else "stop"
        ledger.append(
            "attempt_ended", attempt=mine.attempt, exit_code=exit_code, cause=cause, decision=decision, why=""
        )
        lease.give_back(paths.lease, mine)


@contextmanager
def _renewed(path: Path, mine: Lease) -> Iterator[None]:
    """Leave signs of life, by which other machines know that the folder is held."""
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


@contextmanager
def _listening(stop: Stop) -> Iterator[None]:
    """Let TERM and USR2 ask for a stop; a person's own handlers come back afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    stop.listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
