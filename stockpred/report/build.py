"""Write a run's ``report.html``: one self-contained HTML file, byte for byte equal for equal inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import jinja2

from hpc.base import records
from hpc.run.history import History
from hpc.run.paths import RunPaths
from stockpred.report import runfiles, sections, task_part
from stockpred.report.data_section import data
from stockpred.report.elements import Alarm, Headline, Section, Tile
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import TaskReport

_TEMPLATE = Path(__file__).with_name("page.html.j2")


def build_report(
    paths: RunPaths, *, is_conclusion: bool = False, check_lease: Callable[[], None] = lambda: None
) -> Path:
    """Write ``report.html`` from the files of the run directory alone; return its path.

    ``is_conclusion`` means that the run ends with this report, although the ledger does not say so yet.
    ``check_lease`` raises when the caller no longer owns the run.

    A section whose file is missing is left out; without test results the page says that there is no verdict
    yet.
    """
    files = runfiles.read(paths)
    if is_conclusion:
        files = replace(files, history=_concluded(files.history, time.time()))
    text = render(files, task_part.of(files))
    check_lease()
    records.write_text(paths.report, text)
    return paths.report


def render(files: RunFiles, task_report: TaskReport) -> str:
    """Return the page of a run: what every run has, and its task's own part."""
    tested = task_report.tested
    return render_page(
        title=f"{files.case} \u00b7 {files.run_id}",
        run_line=_run_line(files),
        alarms=sections.alarms(files, task_report),
        headline=tested.headline if tested else _no_result(files),
        tiles=tested.tiles if tested else (),
        sections=_sections(files, task_report),
    )


def render_page(
    *,
    title: str,
    run_line: str,
    alarms: Sequence[Alarm],
    headline: Headline,
    tiles: Sequence[Tile],
    sections: Sequence[Section],
) -> str:
    """Return the HTML text of a page, which reports and summaries share."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text())
    return template.render(
        title=title, run_line=run_line, alarms=alarms, headline=headline, tiles=tiles, sections=sections
    )


def _concluded(history: History, now: float) -> History:
    """Return the history as it will be when this attempt, whose last act is the report, has ended."""
    ended = [replace(attempt, ended=now, cause=sections.TO_THE_END) for attempt in history.attempts[-1:]]
    return replace(history, attempts=(*history.attempts[:-1], *ended), finished=True)


def _no_result(files: RunFiles) -> Headline:
    state = " Its state is finished." if files.history.finished else ""
    return Headline(
        f"Case {files.case}: no verdict yet, because this run has no test results to read.{state}",
        (),
        is_good=False,
    )


def _sections(files: RunFiles, task_report: TaskReport) -> tuple[Section, ...]:
    return (
        *(task_report.tested.sections if task_report.tested else ()),
        *((sections.training(files, task_report),) if files.metrics else ()),
        *((sections.attempts(files, task_report),) if files.history.attempts else ()),
        *((data(files, task_report),) if files.data_info else ()),
        sections.model(files, task_report),
        *((sections.provenance(files),) if files.provenance else ()),
    )


def _run_line(files: RunFiles) -> str:
    return " \u00b7 ".join(filter(None, (f"{files.case}/{files.run_id}", files.task)))
