"""Every rival on real bars: proper scores of its forecasts of the next return, and the seconds they take.

python benchmarks/rivals.py --data DIR [--case CASE] [--category NAME] [--split DATE DATE] [--log] [RIVAL]...

Bars of the case's universe (of one category, where it is named), checked and split as every case starts out.
CRPS in basis points of simple return, and its ratio to that of the normal with an EWMA variance; log score in
nats (higher is better); the share of returns inside the central 90 %; mean RankIC over the dates with its
Newey-West t. --log forecasts and scores log returns instead, as some tables do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpc.base import yamlfile
from stockpred.config.base import DataConfig
from stockpred.data import universe
from stockpred.data.load import load_checked_bars
from stockpred.data.splits import Split
from stockpred.data.universe import Universe
from stockpred.score import metrics, rival
from stockpred.score.history import History
from stockpred.score.rival import RivalForecast

ROOT = Path(__file__).resolve().parents[1]
JUDGED = (Split.VALIDATION, Split.TEST)
REFERENCE = "ewma_normal"
Row = tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of bars")
    parser.add_argument("--case", default="crypto")
    parser.add_argument("--category", help="only the assets of this category, such as us_equity")
    parser.add_argument("--split", nargs=2, metavar="DATE", help="first dates of validation and test")
    parser.add_argument("--log", action="store_true", help="log returns instead of simple ones")
    parser.add_argument("names", nargs="*", metavar="RIVAL")
    asked = parser.parse_args()
    history = _history(asked.data, asked.case, asked.category, asked.split)
    if asked.log:
        history = replace(history, change=np.log1p(history.change))
    print(_described(history))
    names: Sequence[str] = asked.names or rival.names()
    forecasts = {name: _timed(name, history) for name in sorted(names, key=lambda name: name != REFERENCE)}
    _print_distributions(history, forecasts)
    _print_signals(history, forecasts)
    _print_settings(forecasts)


def _history(
    folder: Path, case: str, category: str | None = None, split: Sequence[str] | None = None
) -> History:
    path = ROOT / "cases" / case / "universe.csv"
    full = universe.read(path)
    chosen = Universe(path, tuple(one for one in full.assets if category in (None, one.category)))
    settings = yamlfile.plain(yamlfile.load(ROOT / "cases" / "_base" / "config.yaml"))["data"]
    places = {"dir": str(folder), "universe": str(path)} | ({"split": split} if split else {})
    config = DataConfig.model_validate(settings | places)
    bars = load_checked_bars(config, chosen)
    number = {name: index for index, name in enumerate(chosen.categories)}
    category_of = {one.symbol: number[one.category] for one in chosen.assets}
    categories = bars.checked.bars["symbol"].map(category_of).to_numpy(np.int64)
    return History.of(bars.checked, bars.split, categories)


def _described(history: History) -> str:
    days = {split: history.time[history.targets(split)].astype("datetime64[ns]") for split in Split}
    spans = (
        f"{split.text} {len(days[split])} from {days[split].min():.10} to {days[split].max():.10}"
        for split in (Split.TRAIN, *JUDGED)
    )
    return f"{len(history.asset)} bars of {history.num_assets} assets; targets: {', '.join(spans)}"


def _timed(name: str, history: History) -> tuple[RivalForecast, float]:
    begin = time.perf_counter()
    forecast = rival.load(name).forecast(history)
    return forecast, time.perf_counter() - begin


def _print_distributions(history: History, forecasts: dict[str, tuple[RivalForecast, float]]) -> None:
    for split in JUDGED:
        targets = history.targets(split)
        rows = [
            (name, *_scores(forecast, history, targets), f"{seconds:.1f}")
            for name, (forecast, seconds) in forecasts.items()
            if forecast.distribution is not None
        ]
        if rows:
            _print_table(
                (split.text, "CRPS bp", f"x {REFERENCE}", "log score", "cover90", "s"), _ratios(rows)
            )


def _scores(forecast: RivalForecast, history: History, targets: NDArray[np.int64]) -> Row:
    assert forecast.distribution is not None
    found, outcome = forecast.distribution.at(targets), history.change[targets]
    density = found.log_density(outcome)
    cover = metrics.coverage(found.pit(outcome), 0.9)
    is_point = density is None
    return (
        f"{1e4 * found.crps(outcome).mean():.2f}",
        "" if density is None else f"{density.mean():.4f}",
        "" if is_point else f"{cover:.3f}",
    )


def _ratios(rows: list[Row]) -> list[Row]:
    """Put the ratio to the first row's CRPS behind each CRPS."""
    return [(name, crps, f"{float(crps) / float(rows[0][1]):.4f}", *rest) for name, crps, *rest in rows]


def _print_signals(history: History, forecasts: dict[str, tuple[RivalForecast, float]]) -> None:
    for split in JUDGED:
        targets = history.targets(split)
        rows = [
            (name, *_rank_correlation(forecast.signal[targets], history, targets), f"{seconds:.1f}")
            for name, (forecast, seconds) in forecasts.items()
            if forecast.signal is not None
        ]
        if rows:
            _print_table((split.text, "RankIC", "t", "s"), rows)


def _rank_correlation(signal: NDArray[np.float64], history: History, targets: NDArray[np.int64]) -> Row:
    found = metrics.information_coefficient(
        signal, history.change[targets], history.time[targets], ranked=True
    )
    return ("", "") if found is None else (f"{found.mean:+.4f}", f"{found.t:.1f}")


def _print_settings(forecasts: dict[str, tuple[RivalForecast, float]]) -> None:
    for name, (forecast, _) in forecasts.items():
        if forecast.settings:
            print(f"{name}: " + ", ".join(f"{key} {value:.5g}" for key, value in forecast.settings.items()))


def _print_table(head: Row, rows: list[Row]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print()
    for row in (head, *rows):
        print(
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        )


if __name__ == "__main__":
    main()
