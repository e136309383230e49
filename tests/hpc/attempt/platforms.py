"""A platform whose ranks are shell commands, and what a test may read of its attempts."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpc.base.shell import Process
from hpc.run.decision import RetryLimits
from hpc.run.ending import CANCELLED, NOTHING, Circumstance

LIMITS = RetryLimits(max_stalled=2, max_attempts=None)


@dataclass
class Shell:
    """A platform that starts each of ``commands`` as a rank; it is cancelled once a signal was forwarded."""

    commands: Sequence[str] = ("exit 0",)
    job_id: str = "7"
    executor: str = "local"
    array: str | None = None
    nodes: tuple[str, ...] = ()
    deadline: float | None = None
    is_new_submit: bool = False
    forwarded: list[int] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)

    def start(self, environ: Mapping[str, str]) -> list[Process]:
        self.processes = [subprocess.Popen(["sh", "-c", command]) for command in self.commands]
        return self.processes

    def forward_signal(self, number: int, processes: list[Process]) -> float:
        self.forwarded.append(number)
        return math.inf

    def circumstance(self) -> Circumstance:
        return CANCELLED if self.forwarded else NOTHING

    def is_running(self, job_id: str) -> bool | None:
        return None
