"""A checkpoint folder while one training writes into it: the lease, the ledger, the request to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpc.base.errors import ExitCode, UserError
from hpc.run import lease
from hpc.run.attempt import Attempt
from hpc.run.decision import RetryLimits
from hpc.run.ending import NOTHING, Circumstance
from hpc.run.lifecycle import OpenAttempt, open_attempt
from hpc.run.paths import RunPaths
from hpc.run.stop import STOP_SIGNALS, Stop
from stockpred.train.distributed import Group

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long a rank of a training that was killed may take to notice it."""
LONGEST_WAIT_S = 2 * lease.STALE_S
"""How long the lease of another machine's process is watched: clocks of machines may differ a little."""
POLL_S = 0.1
LIMITS = RetryLimits(max_stalled=1, max_attempts=None, starts_again=False)
"""A person starts each attempt, and a person's start is never refused for what came before."""


@dataclass(frozen=True)
class PersonsProcess:
    """The process of a person's script, as what carries an attempt."""

    job_id: str
    deadline: float | None
    executor: str = "local"
    array: str | None = None
    nodes: tuple[str, ...] = ()
    is_new_submit: bool = True

    def circumstance(self) -> Circumstance:
        return NOTHING

    def is_running(self, job_id: str) -> bool | None:
        return None


@contextmanager
def held(folder: Path, group: Group) -> Iterator[Attempt]:
    """Hold a folder on behalf of all ranks, and yield the attempt that writes into it. Collective.

    Raises UserError on every rank while another training is at work there.
    """
    paths = RunPaths(folder)
    with ExitStack() as stack:
        found = _opened(stack, paths, group) if group.is_main else None
        refusal = found if isinstance(found, str) else None
        held_by = (found.number, found.lease.token) if isinstance(found, OpenAttempt) else None
        held_by, refusal = group.from_main((held_by, refusal))
        if held_by is None:
            fix = "wait for it to end, or take another checkpoint_dir"
            raise UserError(refusal, where=str(folder), fix=fix, exit_code=ExitCode.REFUSED)
        number, token = held_by
        stop = Stop(deadline=group.env.deadline, request_file=None, attempt=number)
        stack.enter_context(_listening(stop))
        if isinstance(found, OpenAttempt):
            stack.enter_context(_closed(found))
        yield Attempt(paths, number, stop, token)


def _opened(stack: ExitStack, paths: RunPaths, group: Group) -> OpenAttempt | str:
    """Return the new attempt, or why there is none: a training that is seen to live."""
    paths.root.mkdir(parents=True, exist_ok=True)
    job = PersonsProcess(f"{socket.gethostname()}:{os.getpid()}", group.env.deadline)
    holder = Holder(paths)
    while True:
        try:
            attempt = stack.enter_context(open_attempt(paths, job, LIMITS))
        except UserError as error:
            if holder.is_seen_to_live(error.what):
                return error.what
            time.sleep(POLL_S)
        else:
            stack.enter_context(lease.kept_alive(paths.lease, attempt.lease))
            return attempt


class Holder:
    """Whoever holds a folder, watched by one who waits for it.

    Of another machine's process nothing can be known but that it renews its lease: one that was killed looks
    alive until the lease is stale.
    """

    def __init__(self, paths: RunPaths) -> None:
        self.path = paths.lease
        self.begin = time.monotonic()
        self.sign: float | None = None
        """When the lease was last renewed, as it was at the end of ``PATIENCE_S``."""

    def is_seen_to_live(self, who: str) -> bool:
        waited_s = time.monotonic() - self.begin
        if waited_s < PATIENCE_S:
            return False
        holder, sign = lease.read(self.path), self._last_sign()
        if holder is not None and holder.host == socket.gethostname():
            return True
        if self.sign is None:
            self.sign = sign
            log.warning("%s, or was killed: waiting for a sign of life, up to %.0f s", who, lease.STALE_S)
        return sign not in (None, self.sign) or waited_s > LONGEST_WAIT_S

    def _last_sign(self) -> float | None:
        try:
            return self.path.stat().st_mtime
        except FileNotFoundError:
            return None


@contextmanager
def _closed(attempt: OpenAttempt) -> Iterator[None]:
    """Record how an attempt ends."""
    exit_code = int(ExitCode.FAILED)
    try:
        yield
        exit_code = int(ExitCode.OK)
    except SystemExit as error:
        exit_code = error.code if isinstance(error.code, int) else exit_code
        raise
    except KeyboardInterrupt:
        exit_code = int(ExitCode.INTERRUPTED)
        raise
    finally:
        attempt.close(exit_code)


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
