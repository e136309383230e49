"""From a source's bars to what a run trains on: ``prepare`` once on rank 0, ``load`` on every rank."""

from __future__ import annotations

from collections.abc import Callable

from hpc.paths import RunPaths
from stockpred.data.token_bars import Dataset, load
from stockpred.experiments.next_bar import NextBarExperiment

__all__ = ["Dataset", "load", "prepare"]


def prepare(
    experiment: NextBarExperiment, paths: RunPaths, *, guard: Callable[[], None] = lambda: None
) -> None:
    """Write tokenizer.json, asset_info.json, data_info.json, norm_stats.json and ``prepared/``.

    Complete prepared bars are verified and used again. Raises UserError for bars that differ from those the
    run began with, and for bars that cannot be trained on. ``guard`` is called right before anything in the
    run directory is written or removed, and raises where another attempt holds the run.
    """
    from stockpred.data import preparation  # pandas: only the rank that prepares pays for it

    preparation.prepare(experiment, paths, guard=guard)
