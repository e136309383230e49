"""Runs with results, written to disk without training, and what a summary of them says."""

from __future__ import annotations

import csv
import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpc.base import records
from hpc.run.paths import RunPaths
from stockpred.data.splits import Split
from stockpred.report.summary import correction, gather, rows, task_part
from stockpred.report.summary.gather import Gathered
from stockpred.report.summary.rows import ModelRow
from stockpred.score import files, forecasts
from stockpred.score.compare import BarScores, score_split
from stockpred.score.forecasts import Outcomes
from stockpred.score.metrics import EvaluatedModel, Floats
from stockpred.score.results import SplitScores

DAY_NS = 86_400_000_000_000
DRIFT = 0.001


def outcomes(symbol: str, split: Split, num_bars: int, first_test: str = "2023-01-02") -> Outcomes:
    """Return a random walk of one asset, which depends on the symbol and the split alone."""
    rng = np.random.default_rng([*symbol.encode(), int(split)])
    returns = 0.02 * rng.standard_normal(1000)[:num_bars]
    close = 100.0 * np.cumprod(1.0 + returns)
    first = first_test if split is Split.TEST else "2022-01-02"
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


@dataclass(frozen=True)
class ForecastRun:
    """What a forecast run is like; its forecasts know ``share`` of each return, or are ``constant``."""

    model: str = "mlp"
    run_id: str | None = None
    share: float = 0.0
    constant: float | None = None
    seed: int | None = None
    num_bars: int = 300
    first_test: str = "2023-01-02"
    written: int = 1_000
    is_sealed: bool = False

    def expected(self, bars: Outcomes) -> Floats:
        if self.constant is not None:
            return np.full(len(bars), self.constant)
        rng = np.random.default_rng([*self.model.encode(), self.seed or 0])
        return self.share * bars.realised_return + 0.0005 * rng.standard_normal(len(bars))


def write_run(root: Path, symbol: str, **how: Any) -> Path:
    """Write a run that is ``ForecastRun(**how)``; ``written`` in seconds since 1970."""
    run = ForecastRun(**how)
    paths = RunPaths(root / "runs" / "per_stock" / (run.run_id or f"small-{symbol.strip('^')}-{run.model}"))
    paths.root.mkdir(parents=True)
    for split in (Split.VALIDATION, *(() if run.is_sealed else (Split.TEST,))):
        score_forecasts(paths, run, symbol, split)
    _finish(paths, f"task: {{name: forecast}}\ndata: {{symbol: {symbol}}}\n", run.seed, run.written)
    return paths.root


def score_forecasts(paths: RunPaths, run: ForecastRun, symbol: str, split: Split) -> None:
    """Score a run's forecasts of one split and write what came of it."""
    scores, table = _scored_forecasts(replace(run, run_id=None, written=0, is_sealed=False), symbol, split)
    files.write(paths, "forecast", scores, table, lambda: None)


@cache
def _scored_forecasts(run: ForecastRun, symbol: str, split: Split) -> tuple[SplitScores, pd.DataFrame]:
    bars = outcomes(symbol, split, run.num_bars, run.first_test)
    expected, nothing = run.expected(bars), np.zeros(len(bars))
    rivals = (
        BarScores("last_value", "Last value", expected_return=nothing),
        BarScores("drift", "Mean training return", expected_return=nothing + DRIFT),
        BarScores("always_up", "Always up", call=nothing + 1.0),
    )
    own = BarScores(run.model, run.model, expected_return=expected)
    scores = score_split(EvaluatedModel(run.model, 8449, 40), bars, own, rivals, with_prices=True)
    return scores, forecasts.table(bars, expected)


def market(split: Split, num_days: int, symbols: Sequence[str]) -> Outcomes:
    """Return days of four assets side by side: two of crypto, one share, and one share unseen in training."""
    num_bars = 4 * num_days
    asset = np.repeat(np.arange(4), num_days)
    rng = np.random.default_rng(int(split))
    first = "2023-01-02" if split is Split.TEST else "2022-01-02"
    days = np.datetime64(first, "ns").astype(np.int64) + np.arange(num_days) * DAY_NS
    time = np.tile(days, 4)
    return Outcomes(
        split=split,
        symbols=tuple(symbols),
        categories=("crypto", "us_equity"),
        asset=asset,
        category=asset // 2,
        known_at=time - DAY_NS,
        time=time,
        previous_close=np.full(num_bars, 100.0),
        realised_return=0.02 * rng.standard_normal(num_bars),
        is_unseen=asset == 3,
    )


@dataclass(frozen=True)
class MarketRun:
    """What a next-token run is like; its CRPS is better by ``gain`` of each outcome's size than a rival's."""

    case: str = "crypto"
    seed: int | None = None
    gain: float = 0.0
    num_days: int = 60
    written: int = 1_000
    symbols: tuple[str, ...] = ("BTC", "ETH", "AAPL", "XOM")
    overrides: tuple[str, ...] = ()


def write_market_run(root: Path, run_id: str, **how: Any) -> Path:
    """Write a run that is ``MarketRun(**how)``; ``written`` in seconds since 1970."""
    run = MarketRun(**how)
    paths = RunPaths(root / "runs" / run.case / run_id)
    paths.root.mkdir(parents=True)
    for split in (Split.VALIDATION, Split.TEST):
        scores, table = _scored_market(replace(run, case="", written=0, overrides=()), split)
        files.write(paths, "next_token", scores, table, lambda: None)
    _finish(paths, "task: {name: next_token}\n", run.seed, run.written)
    write_plan(paths.root, *run.overrides)
    return paths.root


@cache
def _scored_market(run: MarketRun, split: Split) -> tuple[SplitScores, pd.DataFrame]:
    bars = market(split, run.num_days, run.symbols)
    size = np.abs(bars.realised_return)
    noise = 0.0002 * np.random.default_rng(run.seed or 0).standard_normal(len(bars))
    rivals = (
        _crps("last_value", "Last value", size),
        _crps("rogers_satchell", "Rogers-Satchell range, training shape", 0.9 * size),
    )
    own = _crps("market_gpt", "market_gpt", (0.9 - run.gain) * size + noise)
    scores = score_split(EvaluatedModel("market_gpt", 561_664, 40), bars, own, rivals)
    return scores, forecasts.table(bars, np.zeros(len(bars)))


def _crps(name: str, label: str, crps: Floats) -> BarScores:
    return BarScores(name, label, crps=crps, expected_return=np.zeros(len(crps)))


def _finish(paths: RunPaths, config: str, seed: int | None, written: int) -> None:
    results = paths.test_results if paths.test_results.exists() else paths.validation_results
    os.utime(results, (written, written))
    paths.config.write_text(config + ("" if seed is None else f"training: {{seed: {seed}}}\n"))


def without_results(run_dir: Path) -> Path:
    """Take a run's results away."""
    RunPaths(run_dir).test_results.unlink(missing_ok=True)
    RunPaths(run_dir).validation_results.unlink(missing_ok=True)
    return run_dir


def gathered(run_dirs: Sequence[Path], task: str = "forecast") -> Gathered:
    return gather.gather(gather.read(run_dirs), task_part.of(task).reader)


def models_of(run_dirs: Sequence[Path], task: str = "forecast") -> list[ModelRow]:
    """Return the models' rows of a summary of runs."""
    measure, found = task_part.of(task).measure, gathered(run_dirs, task)
    subjects = rows.of(found, measure, correction.of(found, measure.claim))
    return [row for subject in subjects for row in subject.models]


def rows_of(prefix: Path) -> list[dict[str, str]]:
    with prefix.with_name(f"{prefix.name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def judged_rows_of(prefix: Path) -> list[dict[str, str]]:
    """Return the rows of the CSV file on the test, all assets together."""
    return [row for row in rows_of(prefix) if (row["split"], row["group"]) == ("test", "all")]


def page_of(prefix: Path) -> str:
    return prefix.with_name(f"{prefix.name}.html").read_text()


def text_of(prefix: Path) -> str:
    page = re.sub(r"<(style|svg).*?</\1>", " ", page_of(prefix), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").split())


def table_of(told: str) -> list[str]:
    """Return the lines of the table that a summary prints, less the one above that says what it shows."""
    return told.split("\n\n", 1)[1].rsplit("\n\n", 1)[0].splitlines()[1:]


def write_plan(run_dir: Path, *overrides: str) -> None:
    records.write_json(RunPaths(run_dir).plan, {"overrides": list(overrides)})
