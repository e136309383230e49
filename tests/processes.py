"""The processes that work in a directory, found by where they are; for tests that must leave none behind."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil


def working_in(root: Path) -> Iterator[psutil.Process]:
    """Yield the processes whose working directory is ``root`` or below it, but for this one."""
    place = root.resolve()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(place):
                yield process


def commands_in(root: Path) -> list[str]:
    """Return the command lines of those processes."""
    found = []
    for process in working_in(root):
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return found


def kill_all_in(root: Path) -> None:
    """Kill every process that works in a directory, and let none see another die."""
    found = list(working_in(root))
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
