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
from stockpred.data.splits import Split
from stockpred.report.summary import gather, task_part
from stockpred.report.summary.gather import Gathered
from stockpred.score import files, forecasts
from stockpred.score.compare import BarScores, score_split
from stockpred.score.forecasts import Outcomes
from stockpred.score.metrics import EvaluatedModel

DAY_NS = 86_400_000_000_000
DRIFT = 0.001


def outcomes(symbol: str, split: Split, num_bars: int) -> Outcomes:
    """Return a random walk of one asset, which depends on the symbol and the split alone."""
    rng = np.random.default_rng([*symbol.encode(), int(split)])
    returns = 0.02 * rng.standard_normal(1000)[:num_bars]
    close = 100.0 * np.cumprod(1.0 + returns)
    first = "2023-01-02" if split is Split.TEST else "2022-01-02"
    time = np.datetime64(first, "ns").astype(np.int64) + np.arange(num_bars) * DAY_NS
    nothing = np.zeros(num_bars, np.int64)
    return Outcomes(
        split=split,
        symbols=(symbol,),
        categories=("us_equity",),
        asset=nothing,
        category=nothing,
        known_at=time - DAY_NS,
        time=time,
        previous_close=close / (1.0 + returns),
        realised_return=returns,
        is_unseen=np.zeros(num_bars, np.bool_),
    )


def write_run(
    root: Path,
    symbol: str,
    *,
    model: str = "mlp",
    run_id: str | None = None,
    share: float = 0.0,
    num_bars: int = 300,
    written: int = 1_000,
    is_sealed: bool = False,
) -> Path:
    """Write a run whose forecasts know this share of each return; ``written`` in seconds since 1970."""
    paths = RunPaths(root / "runs" / "per_stock" / (run_id or f"small-{symbol.strip('^')}-{model}"))
    paths.root.mkdir(parents=True)
    for split in (Split.VALIDATION, *(() if is_sealed else (Split.TEST,))):
        bars = outcomes(symbol, split, num_bars)
        noise = 0.0005 * np.random.default_rng([*model.encode()]).standard_normal(num_bars)
        expected = share * bars.realised_return + noise
        rivals = (
            BarScores("last_value", "Last value", expected_return=np.zeros(num_bars)),
            BarScores("drift", "Mean training return", expected_return=np.full(num_bars, DRIFT)),
            BarScores("always_up", "Always up", call=np.ones(num_bars)),
        )
        own = BarScores(model, model, expected_return=expected)
        scores = score_split(EvaluatedModel(model, 8449, 40), bars, own, rivals, with_prices=True)
        files.write(paths, "forecast", scores, forecasts.table(bars, expected), lambda: None)
    results = paths.validation_results if is_sealed else paths.test_results
    os.utime(results, (written, written))
    paths.config.write_text(f"task: {{name: forecast}}\ndata: {{symbol: {symbol}}}\n")
    return paths.root


def gathered(run_dirs: Sequence[Path]) -> Gathered:
    return gather.gather(gather.read(run_dirs), task_part.of("forecast").reader)


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
