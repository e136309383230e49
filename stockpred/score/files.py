"""The files of a run's scores: one of results for each split, and the one table of forecasts."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from hpc.base import records
from hpc.run.paths import RunPaths
from stockpred.data.splits import Split
from stockpred.score import looks, results
from stockpred.score.looks import Look
from stockpred.score.results import SplitScores


def write(
    paths: RunPaths, task: str, scores: SplitScores, table: pd.DataFrame, check_lease: Callable[[], None]
) -> SplitScores:
    """Write a split's scores, and put its forecasts in the place of its rows in ``predictions.parquet``.

    A look at the test is counted in the ledger before anything of it is written; the scores are returned with
    that number. ``check_lease`` is called before each write and raises where another attempt holds the run.
    """
    is_test = scores.split == Split.TEST.text
    if is_test:
        check_lease()
        scores = replace(scores, num_looks=looks.record(paths, _look(paths, task, scores, table)))
    content = _with_other_splits(paths, table, is_last=is_test).to_parquet(index=False, compression="zstd")
    check_lease()
    records.write_bytes(paths.predictions, content)
    check_lease()
    results.write(paths.test_results if is_test else paths.validation_results, scores)
    return scores


def _look(paths: RunPaths, task: str, scores: SplitScores, table: pd.DataFrame) -> Look:
    return Look(
        task=task,
        case=paths.case,
        run_id=paths.run_id,
        step=scores.evaluated.best_step,
        symbols=tuple(sorted(map(str, table["symbol"].unique()))),
        first=table["time"].min().isoformat(),
        last=table["time"].max().isoformat(),
    )


def _with_other_splits(paths: RunPaths, table: pd.DataFrame, *, is_last: bool) -> pd.DataFrame:
    """Return the table with the rows of other splits that were written before; validation comes first.

    Rows that cannot be read, or have other columns, are of a damaged file or an older version: they go.
    """
    try:
        written = pd.read_parquet(io.BytesIO(paths.predictions.read_bytes()))
    except (OSError, ValueError):
        return table
    if set(written.columns) != set(table.columns):
        return table
    others = written.loc[~written["split"].isin(table["split"].unique()), list(table.columns)]
    if others.empty:
        return table
    return pd.concat([others, table] if is_last else [table, others], ignore_index=True)
