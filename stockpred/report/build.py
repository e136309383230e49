"""Write a run's ``report.html``: one file that opens anywhere, equal bytes for equal inputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hpc.base import records
from hpc.run.history import History
from hpc.run.paths import RunPaths
from stockpred.report import page, runfiles, sections, task_part
from stockpred.report.data_section import data
from stockpred.report.elements import Section, Verdict
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import Chapter


def build_report(
    paths: RunPaths, *, is_conclusion: bool = False, guard: Callable[[], None] = lambda: None
) -> Path:
    """Write ``report.html`` from the files of the run directory alone; return its path.

    ``is_conclusion`` tells that the run ends with this report, before the ledger says so. ``guard`` raises
    when the caller no longer owns the run.

    Whatever is missing is left out; without test results the page says that there is no verdict yet.
    """
    files = runfiles.read(paths)
    if is_conclusion:
        files = replace(files, history=_concluded(files.history, time.time()))
    text = render(files, task_part.of(files))
    guard()
    records.write_text(paths.report, text)
    return paths.report


def _concluded(history: History, now: float) -> History:
    """Return the history as it will be when this attempt, whose last act is the report, has ended."""
    ended = [replace(attempt, ended=now, cause=sections.TO_THE_END) for attempt in history.attempts[-1:]]
    return replace(history, attempts=(*history.attempts[:-1], *ended), finished=True)


def render(files: RunFiles, own: Chapter) -> str:
    """Return the page of a run: what every run has, and its task's own chapter."""
    return page.render(
        title=f"{files.case} \u00b7 {files.run_id}",
        run_line=_run_line(files),
        alarms=sections.alarms(files, own),
        verdict=own.tested.verdict if own.tested else _no_verdict(files),
        tiles=own.tested.tiles if own.tested else (),
        sections=_sections(files, own),
    )


def _no_verdict(files: RunFiles) -> Verdict:
    state = " Its state is finished." if files.history.finished else ""
    return Verdict(
        f"Case {files.case}: no verdict yet, because this run has no test results to read.{state}",
        (),
        is_good=False,
    )


def _sections(files: RunFiles, own: Chapter) -> tuple[Section, ...]:
    return (
        *(own.tested.sections if own.tested else ()),
        *((sections.training(files, own),) if files.metrics else ()),
        *((sections.attempts(files, own),) if files.history.attempts else ()),
        *((data(files, own),) if files.data_info else ()),
        sections.model(files, own),
        *((sections.provenance(files),) if files.provenance else ()),
    )


def _run_line(files: RunFiles) -> str:
    return " \u00b7 ".join(filter(None, (f"{files.case}/{files.run_id}", files.task)))
