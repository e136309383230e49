"""Decide what follows an attempt. Pure: facts in, the ending out."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from hpc.base.errors import ExitCode
from hpc.run.ending import BLAMELESS, CANCELLED, SUPERSEDED, Cause, Circumstance, Decision, Ending
from hpc.run.history import History


@dataclass(frozen=True)
class RetryLimits:
    """How long a run may go on by itself.

    ``max_attempts`` counts from a person's last submit; None is no bound. ``starts_again`` is False where
    nobody starts the next attempt, as without the launcher.
    """

    max_stalled: int
    max_attempts: int | None
    starts_again: bool = True

    @classmethod
    def of(cls, plan: dict[str, Any], *, starts_again: bool = True) -> RetryLimits:
        """Read the limits from what a run's plan.json holds."""
        retry = plan["retry"]
        return cls(retry["max_stalled_attempts"], retry["max_attempts"], starts_again)


def judge(
    exit_code: int,
    *,
    circumstance: Circumstance,
    stop_cause: str | None,
    history: History,
    limits: RetryLimits,
) -> Ending:
    """Return how the attempt ended that just left with ``exit_code``.

    ``stop_cause`` is what the ranks agreed on, None when they left without agreeing. ``history`` ends with
    this attempt, its commits included.
    """
    last = history.last
    if circumstance == SUPERSEDED:
        return Ending(Cause.SUPERSEDED, Decision.LEAVE, "another attempt has taken the run over")
    if exit_code == ExitCode.OK and history.finished:
        return Ending(Cause.FINISHED, Decision.FINISHED, "training is done and the report is written")
    if circumstance == CANCELLED or history.is_cancelled:
        return Ending(Cause.CANCELLED, Decision.STOP, "it was cancelled; submitting again continues it")
    if circumstance.is_requeued:
        cause = circumstance.cause or "Slurm did not answer"
        return Ending(cause, Decision.LEAVE, "Slurm has put the job back into the queue")
    if last is not None and last.mistake:
        return Ending(Cause.MISTAKE, Decision.STOP, last.mistake)
    return _continue_or_stop(_cause(exit_code, circumstance, stop_cause), history, limits)


def ended_before(history: History, job_id: str) -> Ending | None:
    """Return why no attempt may begin, None where one may."""
    if history.finished:
        return Ending(Cause.FINISHED, Decision.FINISHED, "it was finished before")
    if history.is_cancelled and job_id in history.job_ids:
        return Ending(Cause.CANCELLED, Decision.STOP, "it was cancelled before this attempt began")
    return None


def crash_cause(exit_code: int) -> str:
    """Name an abnormal end: ``killed by SIGKILL``, ``crashed with exit code 1``."""
    number = exit_code - 128 if exit_code > 128 else -exit_code
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"crashed with exit code {int(exit_code)}"


def stalled_reason(history: History, max_stalled: int) -> str | None:
    """Return why a run may not go on, or None while it makes progress."""
    stalled = history.num_stalled(BLAMELESS)
    if stalled < max_stalled:
        return None
    return (
        f"{stalled} attempts in a row committed no new step after step {history.committed_step}; "
        "give them more time or mend what kills them, then submit again"
    )


def _cause(exit_code: int, circumstance: Circumstance, stop_cause: str | None) -> str:
    if circumstance.cause is not None:
        return circumstance.cause
    if exit_code == ExitCode.CONTINUE_LATER and stop_cause:
        return stop_cause
    return crash_cause(exit_code)


def _continue_or_stop(cause: str, history: History, limits: RetryLimits) -> Ending:
    reason = _why_not_again(cause, history, limits)
    if reason:
        return Ending(cause, Decision.STOP, reason)
    return Ending(cause, Decision.CONTINUE, f"continues after step {history.committed_step}")


def _why_not_again(cause: str, history: History, limits: RetryLimits) -> str | None:
    last = history.last
    if last is not None and not history.has_progress(last) and cause not in BLAMELESS:
        reason = stalled_reason(history, limits.max_stalled)
        if reason:
            return reason
    if not limits.starts_again:
        return f"the same command continues it after step {history.committed_step}"
    if (
        limits.max_attempts is not None
        and len(history.attempts) - history.num_forgiven >= limits.max_attempts
    ):
        return f"retry.max_attempts allows {limits.max_attempts}"
    return None
