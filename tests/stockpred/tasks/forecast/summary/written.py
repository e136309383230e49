"""Runs with results, written to disk without training, and what a summary of them says."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpc.base import records
from hpc.run.paths import RunPaths
from stockpred.report.summary import gather
from stockpred.report.summary.gather import Gathered
from stockpred.score.metrics import EvaluatedModel
from stockpred.tasks.forecast.evaluate import Forecasts, evaluate_test
from stockpred.tasks.forecast.results import ForecastResults
from stockpred.tasks.forecast.summary.build import PART

DAY_NS = 86_400_000_000_000


def write_run(
    root: Path,
    symbol: str,
    *,
    model: str = "mlp",
    run_id: str | None = None,
    share: float = 0.0,
    num_bars: int = 300,
    written: int = 1_000,
) -> Path:
    """Write a run whose forecasts know this share of each return; ``written`` in seconds since 1970."""
    rng = np.random.default_rng(list(symbol.encode()))
    returns = 0.02 * rng.standard_normal(1000)[:num_bars]
    noise = 0.0005 * np.random.default_rng([*model.encode()]).standard_normal(num_bars)
    close = 100.0 * np.cumprod(1.0 + returns)
    previous = close / (1.0 + returns)
    paths = RunPaths(root / (run_id or f"small-{symbol.strip('^')}-{model}"))
    paths.root.mkdir(parents=True)
    time = np.datetime64("2023-01-02", "ns").astype(np.int64) + np.arange(num_bars) * DAY_NS
    forecast = previous * (1.0 + share * returns + noise)
    evaluate_test(
        Forecasts(symbol, "us_equity", time, previous, close, forecast),
        drift=0.001,
        paths=paths,
        evaluated=EvaluatedModel(model, 8449, 40),
    )
    os.utime(paths.test_results, (written, written))
    paths.config.write_text(f"task: {{name: forecast}}\ndata: {{symbol: {symbol}}}\n")
    return paths.root


def gathered(run_dirs: Sequence[Path]) -> Gathered[ForecastResults]:
    return gather.gather(gather.read(run_dirs), PART.reader)


def rows_of(prefix: Path) -> list[dict[str, str]]:
    with prefix.with_name(f"{prefix.name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def page_of(prefix: Path) -> str:
    return prefix.with_name(f"{prefix.name}.html").read_text()


def text_of(prefix: Path) -> str:
    page = re.sub(r"<(style|svg).*?</\1>", " ", page_of(prefix), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace("\u00a0", " ").split())


def write_plan(run_dir: Path, *overrides: str) -> None:
    records.write_json(RunPaths(run_dir).plan, {"overrides": list(overrides)})
