"""What a task says about a summary of its runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stockpred.config import registry
from stockpred.report.elements import Section
from stockpred.report.summary.gather import Gathered, Reader
from stockpred.report.summary.rows import Measure


@dataclass(frozen=True)
class TaskPart:
    """``tasks/TASK/summary.py`` holds one as ``PART``.

    ``subject_word`` says what the runs are told apart by (asset, case); ``pictures`` are the sections that
    only this task has.
    """

    reader: Reader
    measure: Measure
    subject_word: str
    pictures: Callable[[Gathered], tuple[Section, ...]]


def of(task: str) -> TaskPart:
    """Return a task's part of the summary; raise UserError for a task that does not exist."""
    part: TaskPart = registry.load_task(task, "summary").PART
    return part
