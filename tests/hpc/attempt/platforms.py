"""A platform whose ranks are shell commands, and what a test may read of its attempts."""

from __future__ import annotations

import math
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpc.base.shell import Process
from hpc.run.decision import RetryLimits
from hpc.run.ending import CANCELLED, NOTHING, Circumstance

LIMITS = RetryLimits(max_stalled=2, max_attempts=None)


@dataclass
class Shell:
    """A platform that starts each of ``commands`` as a rank; TERM ends them and cancels the run.

    A moment is ``start``, ``forward`` or ``circumstance``; in the first of each kind this process gets the
    signal that ``signals`` has for it, as from outside.
    """

    commands: Sequence[str] = ("exit 0",)
    job_id: str = "7"
    executor: str = "local"
    array: str | None = None
    nodes: tuple[str, ...] = ()
    deadline: float | None = None
    is_new_submit: bool = False
    signals: dict[str, int] = field(default_factory=dict)
    forwarded: list[int] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)

    def start(self, environ: Mapping[str, str]) -> list[Process]:
        self.processes = [subprocess.Popen(["sh", "-c", command]) for command in self.commands]
        self._be_signalled("start")
        return self.processes

    def forward_signal(self, number: int, processes: list[Process]) -> float:
        self.forwarded.append(number)
        self._be_signalled("forward")
        if number == signal.SIGTERM:
            for process in processes:
                process.terminate()
        return math.inf

    def circumstance(self) -> Circumstance:
        found = CANCELLED if signal.SIGTERM in self.forwarded else NOTHING
        self._be_signalled("circumstance")
        return found

    def _be_signalled(self, moment: str) -> None:
        number = self.signals.pop(moment, None)
        if number is not None:
            os.kill(os.getpid(), number)

    def is_running(self, job_id: str) -> bool | None:
        return None
