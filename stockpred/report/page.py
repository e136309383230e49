"""Lay pieces out on a page: one HTML file that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from stockpred.report.elements import Alarm, Section, Tile, Verdict

_TEMPLATE = Path(__file__).with_name("page.html.j2")


def render(
    *,
    title: str,
    run_line: str,
    alarms: Sequence[Alarm],
    verdict: Verdict,
    tiles: Sequence[Tile],
    sections: Sequence[Section],
) -> str:
    """Return the page's text, equal for equal pieces."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text())
    return template.render(
        title=title, run_line=run_line, warnings=alarms, verdict=verdict, tiles=tiles, sections=sections
    )
