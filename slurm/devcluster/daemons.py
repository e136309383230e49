"""Start and stop processes by pid file, never by name."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from layout import ClusterError, Settings

POLL_S = 0.1
STARTS_WITHIN_S = 60.0


def start_time(pid: int) -> str | None:
    """Return when a living process began, in clock ticks since boot; None for the dead and for zombies."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def pid_file(settings: Settings, name: str) -> Path:
    return settings.root / "run" / f"{name}.pid"


def running_pid(settings: Settings, name: str) -> int | None:
    """Return the pid of one of our daemons if it lives; a pid given to another process is not it."""
    try:
        pid, began = pid_file(settings, name).read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if start_time(int(pid)) == began else None


def start(
    settings: Settings, name: str, command: Sequence[str | Path], *, socket: Path | None = None
) -> None:
    """Start one daemon in a session of its own, unless it runs; wait until its ``socket`` is there."""
    if running_pid(settings, name):
        return
    if socket:
        socket.unlink(missing_ok=True)
    output = settings.log(f"{name}.out")
    with output.open("ab") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=settings.root,
            env=settings.environment(),
            start_new_session=True,
        )
    pid_file(settings, name).write_text(f"{process.pid} {start_time(process.pid)}\n")
    is_up = wait_for(
        lambda: process.poll() is not None or not socket or socket.exists(),
        timeout_s=STARTS_WITHIN_S,
    )
    time.sleep(POLL_S)
    if process.poll() is not None or not is_up:
        raise ClusterError(f"{name} did not start: {last_line(output)} (all of it: {output})")


def last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def stop(settings: Settings, name: str, *, patience_s: float = 10.0) -> None:
    """End one daemon: TERM, then KILL after ``patience_s``; without patience KILL at once, like a crash."""
    pid = running_pid(settings, name)
    if pid is not None:
        end([pid], patience_s=patience_s)
    pid_file(settings, name).unlink(missing_ok=True)


def end(pids: Iterable[int], *, patience_s: float) -> None:
    """End processes and wait until they are gone."""
    began = {pid: start_time(pid) for pid in pids}

    def living() -> list[int]:
        return [pid for pid, began_at in began.items() if began_at and start_time(pid) == began_at]

    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        if wait_s:
            send(number, living())
            if wait_for(lambda: not living(), timeout_s=wait_s):
                return


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def wait_for(is_so: Callable[[], object], *, timeout_s: float) -> bool:
    """Return whether a condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
