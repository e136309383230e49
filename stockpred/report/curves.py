"""Curves of losses and validation metrics over optimizer steps, and what each epoch brought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hpc.base import records
from hpc.base.records import Row
from hpc.run.paths import RunPaths
from stockpred.report.canvas import BAND, FAINT, MODEL, MUTED, STYLE, canvas, legend_above, svg
from stockpred.score.metrics import Floats

_POINTS_PER_CURVE = 300
_MOST_LABELLED_RESUMES = 4
_USUAL, _FAR, _ROOM = 0.98, 4.0, 0.15
"""A quantile of what is drawn; how many spans reach far; the room beyond what is needed, in spans."""
_FEWEST_TO_JUDGE = 20


@dataclass(frozen=True)
class Curve:
    """A named quantity over optimizer steps."""

    label: str
    steps: Floats
    values: Floats


def losses(rows: Sequence[Row]) -> tuple[Curve, ...]:
    """Return the training loss of every network."""
    return _curves(rows, "loss", "training")


def validations(rows: Sequence[Row]) -> tuple[Curve, ...]:
    """Return every validation metric, the first of which chose the best step."""
    return _curves(rows, "validation", "validation")


def write_training_log(paths: RunPaths) -> None:
    """Write ``training_log.json``: what each epoch brought; step rows without an epoch are left out."""
    records.write_json(paths.training_log, {"epochs": epochs(records.read_rows(paths.metrics))})


def epochs(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Summarise rows by epoch, counted from 1: mean losses, and the last validation of each.

    A row whose epoch is exactly 2.0 closes the second epoch.
    """
    groups: dict[int, list[Row]] = {}
    for row in rows:
        if "epoch" in row:
            groups.setdefault(max(1, math.ceil(round(float(row["epoch"]), 9))), []).append(row)
    return [_epoch(number, groups[number]) for number in sorted(groups)]


def learning_curves(
    losses: Sequence[Curve],
    validations: Sequence[Curve],
    resumed_at: Sequence[tuple[int, int]],
    best_step: int | None,
    ends: tuple[float, float] | None = None,
) -> str:
    """Draw losses over steps; a ring at the chosen step, and a dashed line with the attempt's number at
    each (attempt, step) where the run resumed. ``ends`` limit the axis of losses.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas()
        for curve, colour in zip(losses, (BAND, "#c9b7d8", FAINT), strict=False):
            thin = _thinned(curve)
            axes.plot(thin.steps, thin.values, color=colour, linewidth=1.2, label=curve.label)
        for curve in validations:
            axes.plot(curve.steps, curve.values, color=MODEL, label=curve.label)
            _mark_best(axes, curve, best_step)
        _mark_resumes(axes, resumed_at)
        axes.set(xlabel="optimizer step", ylabel="loss")
        axes.margins(y=0.1)
        if ends is not None:
            axes.set_ylim(*ends)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        legend_above(axes)
        return svg(figure, "learning", "Training and validation loss over optimizer steps")


def ends_without_spikes(losses: Sequence[Curve], validations: Sequence[Curve]) -> tuple[float, float] | None:
    """Return where the axis is to begin and end if single training losses lie far above the rest, or None.

    Far above: beyond four times the span from the lowest value to the 98th percentile of all that is drawn.
    """
    training = np.concatenate([_finite(_thinned(curve)) for curve in losses] or [np.empty(0)])
    validation = np.concatenate([_finite(curve) for curve in validations] or [np.empty(0)])
    drawn = np.concatenate((training, validation))
    if not len(training) or len(drawn) < _FEWEST_TO_JUDGE:
        return None
    lowest = drawn.min()
    usual = np.quantile(drawn, _USUAL, method="lower")
    if training.max() - lowest <= _FAR * (usual - lowest):
        return None
    needed = max(usual, validation.max(initial=usual))
    room = _ROOM * (needed - lowest)
    end = needed + room
    return (float(lowest - room), float(end)) if training.max() > end else None


def highest_loss(curve: Curve) -> tuple[float, int]:
    """Return the largest finite value of a curve and its step."""
    values = np.where(np.isfinite(curve.values), curve.values, -np.inf)
    at = int(np.argmax(values))
    return float(values[at]), int(curve.steps[at])


def _epoch(number: int, rows: Sequence[Row]) -> dict[str, Any]:
    names = dict.fromkeys(name for row in rows for name in row.get("loss", {}))
    evaluated = [row["validation"] for row in rows if row.get("validation")]
    return {
        "epoch": number,
        "last_step": rows[-1]["step"],
        "lr": rows[-1].get("lr"),
        "loss": {
            name: float(np.mean([row["loss"][name] for row in rows if name in row["loss"]])) for name in names
        },
        "validation": evaluated[-1] if evaluated else None,
    }


def _curves(rows: Sequence[Row], group: str, prefix: str) -> tuple[Curve, ...]:
    names = dict.fromkeys(name for row in rows for name in row.get(group) or {})
    found: list[Curve] = []
    for name in names:
        points = [(row["step"], row[group][name]) for row in rows if name in (row.get(group) or {})]
        steps, values = np.asarray(points, dtype=np.float64).T
        label = prefix if not found else f"{prefix}, {name}"
        found.append(Curve(label, steps, values))
    return tuple(found)


def _finite(curve: Curve) -> Floats:
    return curve.values[np.isfinite(curve.values)]


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
