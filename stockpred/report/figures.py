"""The report's pictures: one function, one SVG text, equal bytes for equal inputs.

Drawn with matplotlib's Figure API alone (no pyplot). Text stays text and takes the page's font; identifiers
carry the figure's name, so that many pictures live in one page; nothing refers to the outside.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import dates as mdates
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, PercentFormatter, StrMethodFormatter

from stockpred.metrics import Floats

INK, MUTED, FAINT = "#1f2933", "#7b8794", "#e4e7eb"
MODEL, RIVAL, BAND = "#1d5fa8", "#c4691c", "#a9c6e8"
_POINTS_PER_CURVE = 300
_MOST_LABELLED_RESUMES = 4
_STYLE: dict[Any, Any] = {
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


@dataclass(frozen=True)
class Curve:
    """A named quantity over optimizer steps."""

    label: str
    steps: Floats
    values: Floats


def learning_curves(
    losses: Sequence[Curve],
    validations: Sequence[Curve],
    resumed_at: Sequence[tuple[int, int]],
    best_step: int | None,
) -> str:
    """Draw losses over steps; a ring at the chosen step, and a dashed line with the attempt's number at
    each (attempt, step) where the run resumed.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _canvas()
        for curve, colour in zip(losses, (BAND, "#c9b7d8", FAINT), strict=False):
            thin = _thinned(curve)
            axes.plot(thin.steps, thin.values, color=colour, linewidth=1.2, label=curve.label)
        for curve in validations:
            axes.plot(curve.steps, curve.values, color=MODEL, label=curve.label)
            _mark_best(axes, curve, best_step)
        _mark_resumes(axes, resumed_at)
        axes.set(xlabel="optimizer step", ylabel="loss")
        axes.margins(y=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        _legend_above(axes)
        return _svg(figure, "learning", "Training and validation loss over optimizer steps")


def coverage_curve(levels: Floats, model: tuple[str, Floats], rival: tuple[str, Floats] | None) -> str:
    """Draw how often the outcome fell inside each central interval; the diagonal is perfect calibration."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _canvas()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), label="perfect")
        if rival is not None:
            axes.plot(levels, rival[1], color=RIVAL, label=rival[0])
        axes.plot(levels, model[1], color=MODEL, marker="o", markersize=3.2, label=model[0])
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the interval", ylabel="outcomes inside")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axis.set_major_locator(FixedLocator([0.25, 0.5, 0.75, 1.0]))
        axes.legend(loc="upper left")
        return _svg(
            figure, "coverage", "Share of outcomes inside central intervals against their probability"
        )


def gain_over_time(gain: pd.Series) -> str:
    """Draw the mean gain in nats per bar by calendar period; ``gain`` is per bar, indexed by time."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _canvas()
        period, days = _period_of(gain.index)
        mean = gain.resample(period).mean().dropna()
        centres = mean.index.to_numpy("datetime64[D]") - np.timedelta64(days // 2, "D")
        colours = np.where(mean.to_numpy() >= 0.0, MODEL, RIVAL)
        axes.bar(centres, mean.to_numpy(), width=0.8 * days, color=list(colours))
        axes.axhline(0.0, color=MUTED, linewidth=0.9)
        axes.set_ylabel("nats per bar gained")
        axes.grid(axis="x", visible=False)
        _date_axis(axes)
        return _svg(figure, "time", "Gain over the best token rival by calendar period")


def gain_by_asset(gain: pd.Series) -> str:
    """Draw the gain of every asset, sorted; ``gain`` is indexed by symbol. Many assets become a histogram."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _canvas(height=max(3.3, 0.2 * len(gain) + 0.7) if len(gain) <= 30 else 3.3)
        if len(gain) <= 30:
            ordered = gain.sort_values(kind="stable")
            rows = np.arange(len(ordered))
            axes.add_collection(
                LineCollection([[(0, y), (x, y)] for x, y in zip(ordered, rows, strict=True)], colors=BAND)
            )
            axes.scatter(ordered, rows, s=26, color=np.where(ordered >= 0, MODEL, RIVAL), zorder=3)
            axes.set_yticks(rows, list(ordered.index))
            axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
            axes.set_ylim(-0.7, len(rows) - 0.3)
            axes.grid(axis="y", visible=False)
        else:
            axes.hist(gain, bins=30, color=MODEL)
            axes.set_ylabel("assets")
        axes.axvline(0.0, color=MUTED, linewidth=0.9)
        axes.set_xlabel("nats per bar gained")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return _svg(figure, "assets", "Gain over the best token rival by asset")


def forecast_fan(symbol: str, forecasts: pd.DataFrame) -> str:
    """Draw an asset's closes on the bands forecast for them one bar before; rows sorted by time."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _canvas()
        time = forecasts["time"].to_numpy("datetime64[s]")
        before = forecasts["previous_close"].to_numpy()
        level = {
            name: before * np.exp(forecasts[name].to_numpy(np.float64))
            for name in ("q05", "q25", "q75", "q95")
        }
        axes.fill_between(time, level["q05"], level["q95"], color=BAND, alpha=0.45, linewidth=0, label="90 %")
        axes.fill_between(time, level["q25"], level["q75"], color=BAND, alpha=0.9, linewidth=0, label="50 %")
        axes.plot(
            time, forecasts["close"], color=INK, linewidth=0.9, marker="o", markersize=1.8, label="close"
        )
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.margins(x=0.01)
        _date_axis(axes)
        _legend_above(axes)
        return _svg(
            figure, f"fan-{symbol.encode().hex()}", f"One-bar-ahead forecast bands and closes of {symbol}"
        )


def token_candles(tokens: Sequence[int], candles_KF: Floats) -> str:
    """Draw tokens as candles; rows hold open, high, low, close in volatilities from the previous close."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _canvas()
        opened, high, low, close = candles_KF.T
        colours = list(np.where(close >= opened, MODEL, RIVAL))
        axes.vlines(range(len(tokens)), low, high, colors=colours, linewidth=1.1)
        body = np.maximum(np.abs(close - opened), 0.02)
        axes.bar(range(len(tokens)), body, bottom=np.minimum(opened, close), width=0.6, color=colours)
        axes.axhline(0.0, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.set_xticks(range(len(tokens)), [str(token) for token in tokens])
        axes.tick_params(axis="x", labelsize=8.5)
        axes.set(xlabel="token", ylabel="volatilities from the last close")
        axes.grid(axis="x", visible=False)
        return _svg(figure, "tokens", "Tokens drawn as candles, from falls to rises")


def _canvas(height: float = 3.3) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.2, height), dpi=72, layout="constrained")
    return figure, figure.subplots()


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, borderaxespad=0.1)


def _thinned(curve: Curve) -> Curve:
    """Average neighbours, so that a long noisy curve stays readable and small."""
    if len(curve.steps) <= _POINTS_PER_CURVE:
        return curve
    edges = np.linspace(0, len(curve.steps), _POINTS_PER_CURVE + 1).astype(np.int64)[:-1]
    counts = np.diff(np.append(edges, len(curve.steps)))
    return Curve(
        curve.label,
        np.add.reduceat(curve.steps, edges) / counts,
        np.add.reduceat(curve.values, edges) / counts,
    )


def _mark_best(axes: Axes, validation: Curve, best_step: int | None) -> None:
    at = np.flatnonzero(validation.steps == best_step)
    if len(at):
        x, y = validation.steps[at[0]], validation.values[at[0]]
        axes.plot(
            [x], [y], "o", markersize=8, markerfacecolor="white", color=MODEL, label=f"best, step {int(x)}"
        )


def _mark_resumes(axes: Axes, resumed_at: Sequence[tuple[int, int]]) -> None:
    for attempt, step in resumed_at:
        axes.axvline(step, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        if len(resumed_at) <= _MOST_LABELLED_RESUMES:
            at_top = axes.get_xaxis_transform()
            axes.text(step, 1.0, f" attempt {attempt}", transform=at_top, fontsize=9.0, color=MUTED, va="top")


def _period_of(time: pd.Index) -> tuple[str, int]:
    """Return the resampling rule that gives some ten to forty bars, and its length in days."""
    span_days = (time.max() - time.min()).days
    if span_days <= 150:
        return "W", 7
    return ("ME", 30) if span_days <= 1300 else ("QE", 91)


def _date_axis(axes: Axes) -> None:
    locator = mdates.AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = mdates.ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)


def _svg(figure: Figure, name: str, description: str) -> str:
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
