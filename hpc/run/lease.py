"""Who may write into a run directory: one attempt at a time, known by a token.

The batch side of an attempt takes the lease, renews it while it lives and gives it back. A job compares its
own token with the file before every commit; an attempt that was thought dead and wakes up finds another token
and must not write. The files of an exact run are the same whoever writes them, so the instant between the
look and the rename does no harm.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from hpc.base import records, shell
from hpc.base.errors import ExitCode, UserError

STALE_S = 60.0
RENEW_S = 10.0
PROC = Path("/proc")


@dataclass(frozen=True)
class Lease:
    """The holder of a run directory. The file's time of change is its last sign of life."""

    token: str
    attempt: int
    job_id: str
    host: str
    pid: int
    born: int
    """When the process started, in clock ticks since the boot: a process id alone is used again."""


def new(*, attempt: int, job_id: str) -> Lease:
    return Lease(secrets.token_hex(8), attempt, job_id, socket.gethostname(), os.getpid(), _born(os.getpid()))


def read(path: Path) -> Lease | None:
    row = records.read_json_if_any(path)
    try:
        return Lease(**row) if row else None
    except TypeError:
        return None


def take(path: Path, mine: Lease, *, is_running: Callable[[str], bool | None]) -> None:
    """Become the holder; raise UserError while another job lives.

    A requeued job replaces its own earlier attempt. ``is_running`` asks the scheduler about a job and answers
    None where there is nobody to ask.
    """
    holder = read(path)
    if holder and holder.job_id != mine.job_id and is_alive(path, holder, is_running):
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


def give_back(path: Path, mine: Lease) -> None:
    if is_held(path, mine.token):
        path.unlink(missing_ok=True)


def is_held(path: Path, token: str) -> bool:
    holder = read(path)
    return holder is not None and holder.token == token


def is_alive(path: Path, holder: Lease, is_running: Callable[[str], bool | None]) -> bool:
    """Say whether a holder lives: by the scheduler's word, else by its process, else by its last sign."""
    answer = is_running(holder.job_id)
    if answer is not None:
        return answer
    if holder.host == socket.gethostname():
        return _born(holder.pid) == holder.born
    return time.time() - path.stat().st_mtime < STALE_S


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
        exit_code=ExitCode.REFUSED,
    )


def _born(pid: int) -> int:
    """Return a number that tells a process from others of its id; 0 for one that is gone, mourned or not.

    It is field 22 of /proc/PID/stat (proc(5)); where there is no /proc, as on macOS, a hash of what ps says.
    """
    if not PROC.is_dir():
        state, _, begin = shell.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)]).out.strip().partition(" ")
        return zlib.crc32(begin.strip().encode()) if state[:1] not in ("", "Z") else 0
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
