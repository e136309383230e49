"""From a source's bars to the series of one asset: ``prepare`` once on rank 0, ``load`` on every rank."""

from __future__ import annotations

from collections.abc import Callable

from hpc.paths import RunPaths
from stockpred.data.asset_series import Series, features_of, load, only_asset
from stockpred.experiments.regression import RegressionExperiment

__all__ = ["Series", "features_of", "load", "only_asset", "prepare"]


def prepare(
    experiment: RegressionExperiment, paths: RunPaths, *, guard: Callable[[], None] = lambda: None
) -> None:
    """Write norm_stats.json, asset_info.json, data_info.json and ``prepared/``.

    Complete prepared bars are verified and used again. Raises UserError for bars that differ from those the
    run began with, and for bars that cannot be trained on. ``guard`` is called right before anything in the
    run directory is written or removed, and raises where another attempt holds the run.
    """
    from stockpred.data import series_preparation  # pandas: only the rank that prepares pays for it

    series_preparation.prepare(experiment, paths, guard=guard)
