"""How an attempt ends: why, what follows, and what the scheduler did to it from outside."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """Why an attempt ended. A crash is named by its signal or exit code, an agreed stop by its StopCause."""

    FINISHED = "finished"
    MISTAKE = "mistake"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    REQUEUED = "requeued by Slurm"
    NODE_FAILURE = "node failure"
    TIME_LIMIT = "time limit"
    SUPERSEDED = "superseded"
    LOST = "lost"


class Decision(StrEnum):
    """What follows an attempt."""

    FINISHED = "finished"
    CONTINUE = "continue"
    STOP = "stop"
    LEAVE = "leave it to Slurm"


BLAMELESS = (Cause.PREEMPTED, Cause.CANCELLED, Cause.REQUEUED, Cause.NODE_FAILURE, Cause.SUPERSEDED)
"""Causes that say nothing about the run itself; they do not count as an attempt without progress."""


@dataclass(frozen=True)
class Ending:
    """Why an attempt ended, what follows, and a sentence about both.

    ``cause`` is a ``Cause``, a ``StopCause``, or the name of a crash, which is free text.
    """

    cause: str
    decision: Decision
    why: str


@dataclass(frozen=True)
class Circumstance:
    """What happened to the attempt from outside (None: nothing), and whether Slurm has requeued it."""

    cause: Cause | None = None
    is_requeued: bool = False


NOTHING = Circumstance()
CANCELLED = Circumstance(Cause.CANCELLED)
PREEMPTED = Circumstance(Cause.PREEMPTED)
TIME_LIMIT = Circumstance(Cause.TIME_LIMIT)
NODE_FAILURE = Circumstance(Cause.NODE_FAILURE)
SUPERSEDED = Circumstance(Cause.SUPERSEDED)
SLURM_IS_SILENT = Circumstance(None, is_requeued=True)
"""A terminated job that Slurm does not answer about: it may be cancelled, so it must not come back."""
