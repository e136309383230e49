"""What happened to a run, attempt by attempt: an append-only file of events, the ledger.

The launcher writes ``submitted``, ``attempt_started``, ``attempt_ended``, ``hold_lifted``, ``cancelled``
and ``vanished``; ranks write ``resumed``, ``checkpoint``, ``stop_agreed``, ``finished``, ``warning`` and
``mistake``. Status, restart decisions and reports are reduced from these lines, so they hold without Slurm's
accounting.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from hpc.base import records
from hpc.base.records import Row
from hpc.run.ending import Decision

Word = TypeVar("Word", bound=StrEnum)


class Executor(StrEnum):
    """Who carries the jobs of a run."""

    SLURM = "slurm"
    LOCAL = "local"


@dataclass(frozen=True)
class AttemptRecord:
    """One start of a run. Steps count optimizer steps; times are epoch seconds."""

    number: int
    job_id: str
    nodes: tuple[str, ...]
    started: float
    ended: float | None = None
    first_step: int | None = None
    committed_step: int | None = None
    exit_code: int | None = None
    cause: str | None = None
    decision: Decision | None = None
    why: str | None = None
    mistake: str | None = None
    stop_cause: str | None = None
    """What the ranks agreed to stop for."""


@dataclass(frozen=True)
class History:
    """A run's ledger, reduced."""

    attempts: tuple[AttemptRecord, ...] = ()
    job_ids: tuple[str, ...] = ()
    executor: Executor | None = None
    array: str | None = None
    """The array that the newest job is a task of."""
    finished: bool = False
    is_cancelled: bool = False
    lifted_holds: tuple[str, ...] = ()
    submitted: float = 0.0
    num_before_submit: int = 0
    num_forgiven: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def last(self) -> AttemptRecord | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def job_id(self) -> str | None:
        """The newest job that was submitted for the run."""
        return self.job_ids[-1] if self.job_ids else None

    @property
    def committed_step(self) -> int:
        return max((attempt.committed_step or 0 for attempt in self.attempts), default=0)

    @property
    def is_resubmitted(self) -> bool:
        """Whether a job was submitted that has not begun an attempt yet."""
        return len(self.attempts) == self.num_before_submit

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to the run by itself."""
        last = self.last
        if last is None or last.ended is None or self.is_resubmitted:
            return False
        return self.finished or last.decision == Decision.STOP

    def has_progress(self, attempt: AttemptRecord) -> bool:
        """Say whether an attempt committed a step that the run did not have before."""
        earlier = [other.committed_step or 0 for other in self.attempts if other.number < attempt.number]
        return (attempt.committed_step or 0) > max(earlier, default=0)

    def num_stalled(self, blameless: Iterable[str]) -> int:
        """Count the attempts in a row, up to the last, that committed nothing new by their own fault.

        Attempts before a person's last submit are forgiven.
        """
        excused = frozenset(blameless)
        stalled = 0
        for attempt in reversed(self.attempts[self.num_forgiven :]):
            if self.has_progress(attempt) or attempt.decision == Decision.FINISHED:
                break
            stalled += attempt.cause not in excused
        return stalled


class Ledger:
    """The events of one run in ``events.jsonl``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, kind: str, **fields: Any) -> None:
        """Add one event, stamped with the time."""
        records.append_row(self.path, {"time": time.time(), "kind": kind, **fields})

    def rows(self) -> list[Row]:
        return records.read_rows(self.path)

    def history(self) -> History:
        return reduce(self.rows())


def reduce(rows: Iterable[Row]) -> History:
    """Fold events into a history; unknown kinds and incomplete rows are left aside."""
    history = History()
    for row in rows:
        history = _fold(history, row)
    return history


def _fold(history: History, row: Row) -> History:
    match row:
        case {"kind": "submitted", "job_id": str(job_id)}:
            return _fold_submit(history, job_id, row)
        case {"kind": "attempt_started", "attempt": int(number), "job_id": str(job_id), "time": started}:
            attempt = AttemptRecord(number, job_id, tuple(row.get("nodes", ())), started)
            # Only a person begins a finished run again: a library's training with more epochs.
            begun = replace(_with_job(history, job_id), finished=False)
            return replace(begun, attempts=(*history.attempts, attempt))
        case {"kind": "hold_lifted", "key": str(key)}:
            return replace(history, lifted_holds=(*history.lifted_holds, key))
        case {"kind": "cancelled"}:
            return replace(history, is_cancelled=True)
        case {"kind": "warning", "text": str(text)} if text not in history.warnings:
            return replace(history, warnings=(*history.warnings, text))
        case {"kind": "finished"}:
            return replace(history, finished=True)
        case {"attempt": int(number)}:
            return _fold_attempt(history, number, row)
    return history


def _fold_submit(history: History, job_id: str, row: Row) -> History:
    last = history.last
    is_at_work = last is not None and last.job_id == job_id and last.ended is None
    if job_id == history.job_id and not history.is_cancelled and (last is None or is_at_work):
        return history
    is_by_person = not row.get("successor_of")
    return replace(
        history,
        job_ids=(*(known for known in history.job_ids if known != job_id), job_id),
        executor=_known(Executor, row.get("executor")),
        array=row.get("array"),
        is_cancelled=history.is_cancelled and not is_by_person,
        submitted=float(row.get("time", 0.0)),
        num_before_submit=len(history.attempts),
        num_forgiven=len(history.attempts) if is_by_person else history.num_forgiven,
    )


def _fold_attempt(history: History, number: int, row: Row) -> History:
    attempts = tuple(
        _changed(attempt, row) if attempt.number == number else attempt for attempt in history.attempts
    )
    return replace(history, attempts=attempts)


def _changed(attempt: AttemptRecord, row: Row) -> AttemptRecord:
    match row:
        case {"kind": "resumed", "step": int(step)}:
            return replace(attempt, first_step=step)
        case {"kind": "checkpoint", "step": int(step)}:
            return replace(attempt, committed_step=step)
        case {"kind": "stop_agreed", "cause": str(cause)}:
            return replace(attempt, stop_cause=cause)
        case {"kind": "mistake", "text": str(text)}:
            return replace(attempt, mistake=attempt.mistake or text)
        case {"kind": "vanished"} if attempt.ended is not None:
            return attempt
        case {"kind": "attempt_ended" | "vanished", "time": ended}:
            return replace(
                attempt,
                ended=ended,
                exit_code=row.get("exit_code"),
                cause=row.get("cause"),
                decision=_known(Decision, row.get("decision")),
                why=row.get("why"),
            )
    return attempt


def _known(words: type[Word], found: object) -> Word | None:
    """Return the word that a ledger holds, None for one that this version does not know."""
    return next((word for word in words if word == found), None)


def _with_job(history: History, job_id: str) -> History:
    if job_id in history.job_ids:
        return history
    return replace(history, job_ids=(*history.job_ids, job_id))
