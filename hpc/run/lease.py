"""Who may write into a run directory: one attempt at a time, known by a token.

Whoever carries an attempt takes the lease, renews it while the attempt lives and releases it. A rank compares
its token with the file before every commit: an attempt that was taken for dead and wakes up finds another
token and must not write. The files of an exact run are the same whoever writes them, so the instant between
that comparison and the write does no harm.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from hpc.base import records
from hpc.base.errors import ExitCode, UserError

STALE_S = 60.0
RENEW_S = 10.0
LOCK_S = 120.0
"""Whoever holds the lock may ask Slurm, which may take its time."""

ENDED = -1.0
SAME_BIRTH_S = 1.5
"""Linux tells its boot time in whole seconds, so two readings of one start may differ by one."""


@dataclass(frozen=True)
class Lease:
    """The holder of a run directory. The file's time of change is its last sign of life."""

    token: str
    attempt: int
    job_id: str
    host: str
    pid: int
    born: float
    """When the process started, in seconds since the boot: a process id alone is used again."""
    executor: str | None = None
    """Whose job it is: a local job's id may be that of a job of Slurm. None in files of older versions."""

    def may_be_of(self, executor: str | None) -> bool:
        """Say whether the holder's job is, or may be, one of this executor."""
        return None in (self.executor, executor) or self.executor == executor


def new(*, attempt: int, job_id: str, executor: str | None = None) -> Lease:
    host, pid = socket.gethostname(), os.getpid()
    return Lease(secrets.token_hex(8), attempt, job_id, host, pid, _born(pid), executor)


def read(path: Path) -> Lease | None:
    row = records.read_json_if_any(path)
    try:
        return Lease(**row) if row else None
    except TypeError:
        return None


def take(path: Path, mine: Lease, *, is_running: Callable[[str], bool | None]) -> None:
    """Become the holder; raise UserError while another job lives.

    A requeued job replaces its own earlier attempt. ``is_running`` asks the scheduler of ``mine`` about one
    of its jobs and answers None where there is nobody to ask. Of several that try at once, one succeeds.
    """

    def ask(job_id: str) -> bool | None:
        return is_running(job_id) if holder and holder.may_be_of(mine.executor) else None

    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        holder = read(path)
        is_mine = holder and holder.job_id == mine.job_id and holder.may_be_of(mine.executor)
        if holder and not is_mine and is_alive(path, holder, ask):
            raise UserError(
                f"job {holder.job_id} on {holder.host} is at work in {path.parent}",
                fix="wait for it, or cancel it with `hpc cancel`",
                exit_code=ExitCode.REFUSED,
            )
        records.write_json(path, asdict(mine))


def renew(path: Path, mine: Lease) -> bool:
    """Leave a sign of life; return False when another attempt holds the directory."""
    if not is_held(path, mine.token):
        return False
    with contextlib.suppress(FileNotFoundError):
        os.utime(path)
    return True


@contextlib.contextmanager
def kept_alive(path: Path, mine: Lease) -> Iterator[None]:
    """Renew the lease from a thread, by which other machines know that the run is held."""
    is_over = threading.Event()

    def renew_until_over() -> None:
        while not is_over.wait(RENEW_S):
            renew(path, mine)

    thread = threading.Thread(target=renew_until_over, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def release(path: Path, mine: Lease) -> None:
    """Let the run go, unless another attempt has taken it over, or its directory is gone."""
    if not is_held(path, mine.token):
        return
    with _locked(path):
        if is_held(path, mine.token):
            path.unlink(missing_ok=True)


def is_held(path: Path, token: str) -> bool:
    holder = read(path)
    return holder is not None and holder.token == token


def is_alive(path: Path, holder: Lease, is_running: Callable[[str], bool | None]) -> bool:
    """Say whether a holder lives: ask the scheduler, else look at its process, else at its last renewal."""
    answer = is_running(holder.job_id)
    if answer is not None:
        return answer
    if holder.host == socket.gethostname():
        born = _born(holder.pid)
        return born != ENDED and abs(born - holder.born) < SAME_BIRTH_S
    try:
        return time.time() - path.stat().st_mtime < STALE_S
    except FileNotFoundError:  # it was released meanwhile
        return False


def check(path: Path, token: str | None) -> None:
    """Raise unless ``token`` holds the directory; without a token, unless nobody does."""
    holder = read(path)
    if (holder.token if holder else None) == token:
        return
    if token is None and holder and not is_alive(path, holder, lambda _: None):
        return
    raise UserError(
        "another attempt holds this run: this process stops without writing",
        where=str(path),
        fix="nothing: the other goes on; `hpc status` shows it",
        exit_code=ExitCode.REFUSED,
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time compare and change a lease; the system unlocks for one that is killed.

    The lock's file stays: who unlinked it would leave the others waiting for a file that nobody finds.
    """
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_S):
            yield
    except Timeout:
        raise UserError(
            "another process is taking or releasing this run, and does not come to an end",
            where=str(path),
            fix="try again in a minute; end that process if it hangs",
            exit_code=ExitCode.REFUSED,
        ) from None


def _born(pid: int) -> float:
    """Return how many seconds after the boot a process started; -1 for one that has ended, reaped or not.

    Seconds since the boot do not change when the clock is set.
    """
    try:
        process = psutil.Process(pid)
        return (
            ENDED if process.status() == psutil.STATUS_ZOMBIE else process.create_time() - psutil.boot_time()
        )
    except psutil.NoSuchProcess:
        return ENDED
