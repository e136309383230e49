"""What a task says about a summary of its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from stockpred.config import registry
from stockpred.report.elements import Section
from stockpred.report.summary.gather import Gathered, Reader, TestedRun
from stockpred.report.summary.rows import Measure


@dataclass(frozen=True)
class Pictures:
    """The sections that only one task has; ``problems`` are, by run, files that could not be read."""

    sections: tuple[Section, ...] = ()
    problems: Mapping[TestedRun, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskPart:
    """``tasks/TASK/summary.py`` holds one as ``PART``.

    ``subject_word`` says what the runs are told apart by (asset, case).
    """

    reader: Reader
    measure: Measure
    subject_word: str
    draw: Callable[[Gathered], Pictures]


def of(task: str) -> TaskPart:
    """Return a task's part of the summary; raise UserError for a task that does not exist."""
    part: TaskPart = registry.load_task(task, "summary").PART
    return part
