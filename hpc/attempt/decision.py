"""After an attempt: why it ended and what follows. Pure: facts in, verdict out."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum

from hpc.base.errors import ExitCode
from hpc.run.history import History

BLAMELESS = ("preempted", "cancelled", "requeued by Slurm", "node failure", "superseded")
"""Causes that say nothing about the run itself; they do not count as an attempt without progress."""


class Decision(StrEnum):
    """What the batch side does next."""

    FINISHED = "finished"
    CONTINUE = "continue"
    STOP = "stop"
    LEAVE = "leave it to Slurm"


@dataclass(frozen=True)
class Circumstance:
    """What happened to the attempt from outside (None: nothing), and whether Slurm has requeued it."""

    cause: str | None = None
    is_requeued: bool = False


NOTHING = Circumstance()
CANCELLED = Circumstance("cancelled")
PREEMPTED = Circumstance("preempted")
TIME_LIMIT = Circumstance("time limit")
NODE_FAILURE = Circumstance("node failure")
SUPERSEDED = Circumstance("superseded")


@dataclass(frozen=True)
class Verdict:
    """Why an attempt ended, what follows, and the sentence for the person who asks."""

    cause: str
    decision: Decision
    why: str


def judge(
    exit_code: int,
    *,
    circumstance: Circumstance,
    stop_cause: str | None,
    history: History,
    max_stalled: int,
    max_attempts: int | None,
) -> Verdict:
    """Return the verdict on the attempt that just ended with ``exit_code``.

    ``stop_cause`` is what the ranks agreed on, None when they left without agreeing. ``history`` ends with
    this attempt, whose commits it already tells.
    """
    last = history.last
    if circumstance == SUPERSEDED:
        return Verdict("superseded", Decision.LEAVE, "another attempt has taken the run over")
    if exit_code == ExitCode.OK and history.finished:
        return Verdict("finished", Decision.FINISHED, "training is done and the report is written")
    if circumstance == CANCELLED or history.is_cancelled:
        return Verdict("cancelled", Decision.STOP, "it was cancelled; submitting again continues it")
    if circumstance.is_requeued:
        return Verdict(circumstance.cause or "", Decision.LEAVE, "Slurm has put the job back into the queue")
    if last is not None and last.mistake:
        return Verdict("mistake", Decision.STOP, last.mistake)
    return _continue_or_stop(_cause(exit_code, circumstance, stop_cause), history, max_stalled, max_attempts)


def _cause(exit_code: int, circumstance: Circumstance, stop_cause: str | None) -> str:
    if circumstance.cause is not None:
        return circumstance.cause
    if exit_code == ExitCode.CONTINUE_LATER and stop_cause:
        return stop_cause
    return crash_cause(exit_code)


def crash_cause(exit_code: int) -> str:
    """Name an abnormal end: ``killed by SIGKILL``, ``crashed with exit code 1``."""
    number = exit_code - 128 if exit_code > 128 else -exit_code
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"crashed with exit code {exit_code}"


def stalled_reason(history: History, max_stalled: int) -> str | None:
    """Return why a run may not go on, or None while it makes progress."""
    stalled = history.num_stalled(BLAMELESS)
    if stalled < max_stalled:
        return None
    return (
        f"{stalled} attempts in a row committed no new step after step {history.committed_step}; "
        "give them more time or mend what kills them, then submit again"
    )


def _continue_or_stop(cause: str, history: History, max_stalled: int, max_attempts: int | None) -> Verdict:
    reason = _with_this_attempt(history, cause, max_stalled)
    if reason:
        return Verdict(cause, Decision.STOP, reason)
    if max_attempts is not None and len(history.attempts) - history.num_forgiven >= max_attempts:
        return Verdict(cause, Decision.STOP, f"retry.max_attempts allows {max_attempts}")
    return Verdict(cause, Decision.CONTINUE, f"continues after step {history.committed_step}")


def _with_this_attempt(history: History, cause: str, max_stalled: int) -> str | None:
    last = history.last
    if last is None or history.has_progress(last) or cause in BLAMELESS:
        return None
    return stalled_reason(history, max_stalled)
