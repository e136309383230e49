"""The page of a summary, in the look of a run's report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from hpc.base import text
from stockpred.report.build import render_page
from stockpred.report.elements import Alarm, Collapsible, Headline, Section, Tile
from stockpred.report.format import sentence
from stockpred.report.sections import SYNTHETIC_WARNING
from stockpred.report.summary.gather import Gathered, TestedRun

MOST_NOTES = 3


def render(gathered: Gathered, headline: Headline, tiles: Sequence[Tile], sections: Sequence[Section]) -> str:
    """Return the HTML text of the page."""
    cases = ", ".join(dict.fromkeys(run.paths.case for run in gathered.runs))
    return render_page(
        title=f"{cases} \u00b7 summary",
        run_line=f"{cases} \u00b7 summary of {text.count(len(gathered.runs), 'run')}",
        alarms=tuple(_alarms(gathered)),
        headline=headline,
        tiles=tiles,
        sections=(*sections, *_left_out(gathered)),
    )


def report_link(run: TestedRun, folder: Path) -> str:
    """Return the address of a run's report relative to ``folder``; nothing where there is no report."""
    if not run.paths.report.exists():
        return ""
    return quote(Path(os.path.relpath(run.paths.report, folder)).as_posix())


def _alarms(gathered: Gathered) -> Iterator[Alarm]:
    synthetic = gathered.synthetic
    if len(synthetic) == len(gathered.subjects):
        yield SYNTHETIC_WARNING
    elif synthetic:
        yield Alarm(f"Some bars are synthetic: {', '.join(synthetic)}.", SYNTHETIC_WARNING.text)
    if _has_many_notes(gathered):
        yield Alarm(_how_many(gathered), "The end of the page says which and why.")
    else:
        yield from (Alarm("Not in this summary.", sentence(note)) for note in gathered.absences)
        yield from (Alarm("Warning.", sentence(note)) for note in gathered.damage)


def _has_many_notes(gathered: Gathered) -> bool:
    return len(gathered.notes) > MOST_NOTES


def _how_many(gathered: Gathered) -> str:
    numbers = {
        "not in this summary": gathered.num_left_out,
        "here without all of their files": len(gathered.damage),
    }
    parts = [
        f"{text.count(number, 'run')} {_are(number)} {what}" for what, number in numbers.items() if number
    ]
    return f"{', '.join(parts)}."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _left_out(gathered: Gathered) -> Iterator[Section]:
    """List the runs that would push the headline out of sight if they stood above it."""
    if _has_many_notes(gathered):
        collapsible = Collapsible("Which runs, and why", "\n".join(gathered.notes))
        yield Section("Runs left out", _how_many(gathered), collapsibles=(collapsible,))
