"""How every picture of the report is drawn: one SVG text each, equal bytes for equal inputs.

Drawn with matplotlib's Figure API alone (no pyplot). Text stays text and takes the page's font; identifiers
carry the figure's name, so that many pictures live in one page; nothing refers to the outside.
"""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from matplotlib import dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, FAINT = "#1f2933", "#7b8794", "#e4e7eb"
MODEL, RIVAL, BAND = "#1d5fa8", "#c4691c", "#a9c6e8"
_LONGEST = {mdates.MONTHLY: 12, mdates.HOURLY: 24, mdates.MINUTELY: 60, mdates.SECONDLY: 60}
"""Steps between ticks that matplotlib lacks: without them it has none for 31 to 35 months and the like."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 11.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


def canvas(height: float = 3.3) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.2, height), dpi=72, layout="constrained")
    return figure, figure.subplots()


def legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, borderaxespad=0.1)


def date_axis(axes: Axes) -> None:
    locator = mdates.AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
    for unit, longest in _LONGEST.items():
        locator.intervald[unit] = [*locator.intervald[unit], longest]
    axes.xaxis.set_major_locator(locator)
    formatter = mdates.ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)


def svg(figure: Figure, name: str, description: str) -> str:
    """Return an inline SVG element: no header, no metadata, no name space, own identifiers."""
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\sxlink:href="', ' href="', text)
    text = re.sub(r'\sid="', f' id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r"font-family: [^;]*; ", "", text)
    text = re.sub(r'\s(width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    return text.replace("<svg", f'<svg role="img" aria-label="{_escaped(description)}"', 1).strip()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
