"""Write a run's ``report.html``: one file that opens anywhere, equal bytes for equal inputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jinja2

from hpc import records
from hpc.ledger import History
from hpc.paths import RunPaths
from stockpred.report import runfiles, sections
from stockpred.report.data_section import data
from stockpred.report.parts import Section
from stockpred.report.runfiles import RunFiles
from stockpred.report.verdict import Verdict, no_verdict, verdict

_TEMPLATE = Path(__file__).with_name("page.html.j2")


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
    page = render(files)
    guard()
    records.write_text(paths.report, page)
    return paths.report


def _concluded(history: History, now: float) -> History:
    """Return the history as it will be when this attempt, whose last act is the report, has ended."""
    ended = [replace(attempt, ended=now, cause="trained to the end") for attempt in history.attempts[-1:]]
    return replace(history, attempts=(*history.attempts[:-1], *ended), finished=True)


def render(files: RunFiles) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text())
    return template.render(
        title=f"{files.case} \u00b7 {files.run_id}",
        run_line=_run_line(files),
        warnings=sections.alarms(files),
        verdict=_verdict(files),
        tiles=sections.tiles(files.results) if files.results else (),
        sections=_sections(files),
    )


def _verdict(files: RunFiles) -> Verdict:
    if files.results is None:
        state = "finished" if files.history.finished else None
        return no_verdict(files.case, state)
    return verdict(files.case, files.results, is_synthetic=files.is_synthetic)


def _sections(files: RunFiles) -> tuple[Section, ...]:
    results = files.results
    tested = (
        (sections.comparison(results), sections.gains(files, results), sections.forecasts(files, results))
        if results
        else ()
    )
    return (
        *tested,
        *((sections.training(files),) if files.metrics else ()),
        *((sections.attempts(files),) if files.history.attempts else ()),
        *((data(files),) if files.data_info else ()),
        sections.model(files),
        *((sections.provenance(files),) if files.provenance else ()),
    )


def _run_line(files: RunFiles) -> str:
    learner = files.experiment.learner.name if files.experiment else None
    return " \u00b7 ".join(filter(None, (f"{files.case}/{files.run_id}", learner)))
