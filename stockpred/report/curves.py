"""The course of training, read from ``metrics.jsonl``: curves for the report, epochs for the log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpc.base import records
from hpc.base.records import Row
from hpc.run.paths import RunPaths
from stockpred.report.learning import Curve


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
