"""Which runs a summary is of: for each asset the newest of each model, all scored on the same bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hpc.base import records
from hpc.base.errors import UserError, raise_all
from hpc.run.history import History
from hpc.run.paths import RunPaths
from stockpred.report import runfiles
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import read_or_note
from stockpred.tasks.forecast import results as results_file
from stockpred.tasks.forecast.report import read_predictions
from stockpred.tasks.forecast.results import RegressionResults

TASK = "forecast"
NO_MATTER = (
    *("array", "resources", "retry", "data.symbol", "data.dir", "model.name"),
    *("training.num_workers", "training.checkpoint_every_s"),
)
"""Settings, and groups of them, that say which run it is, where and how fast it goes.

The asset, which is what an array of assets varies, and the model's name have columns of their own.
"""

_SAME = 1e-9
"""Relative difference of persistence's errors up to which two runs were scored on the same bars."""


@dataclass(frozen=True, eq=False)
class TestedRun:
    """A run with results; ``written`` is when they were, in ns since 1970."""

    __test__ = False  # its name begins like a test class of pytest

    paths: RunPaths
    results: RegressionResults
    predictions: pd.DataFrame | None
    is_synthetic: bool
    written: int
    settings: tuple[str, ...]
    """What was set beyond the case and its preset, such as ``series.inputs=levels``."""

    @property
    def label(self) -> str:
        """The model and what tells this run from the case's own."""
        return " ".join((self.results.evaluated.model, *self.settings))

    @property
    def name(self) -> str:
        return f"{self.results.symbol} {self.label} ({self.paths.run_id})"


@dataclass(frozen=True, eq=False)
class Asset:
    """One asset's runs, by label; ``newest`` is the latest of all.

    ``older`` were scored on the same bars, too, before a newer run of their label.
    """

    symbol: str
    newest: TestedRun
    runs: tuple[TestedRun, ...]
    older: tuple[TestedRun, ...]


@dataclass(frozen=True, eq=False)
class Gathered:
    """The assets in the order in which they were named.

    ``left_out`` has a line for each run that is not here and says why; ``damage`` names files that could not
    be read of runs that are.
    """

    assets: tuple[Asset, ...]
    left_out: tuple[str, ...]
    damage: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.left_out, *self.damage)


def gather(run_dirs: Sequence[Path]) -> Gathered:
    """Read the runs; raise UserError for runs of another task, all at once."""
    distinct = {path.resolve(): RunPaths(path.resolve()) for path in run_dirs}
    files = [runfiles.read(paths) for paths in distinct.values()]
    raise_all([_other_task(one) for one in files if one.task not in (TASK, None)])
    left_out, damage = list[str](), list[str]()
    tested = [run for run in (_tested(one, left_out, damage) for one in files) if run is not None]
    symbols = dict.fromkeys(run.results.symbol for run in tested)
    assets = [_asset([run for run in tested if run.results.symbol == symbol], left_out) for symbol in symbols]
    return Gathered(tuple(assets), tuple(left_out), tuple(damage))


def _other_task(files: RunFiles) -> UserError:
    return UserError(
        f"a summary is of runs of task {TASK}, and this one is of task {files.task}",
        where=str(files.paths.root),
        fix="leave it out",
    )


def _tested(files: RunFiles, left_out: list[str], damage: list[str]) -> TestedRun | None:
    """Return the run with its results, or None and a line that tells why there are none."""
    paths, problems = files.paths, list[str]()
    results = read_or_note(paths.test_results, results_file.read, problems)
    predictions = read_or_note(paths.predictions, read_predictions, problems)
    symbol = results.symbol if results else files.setting("data", "symbol") or "unknown asset"
    name = f"{symbol} ({paths.run_id})"
    told = f"{name}: {'; '.join(problems)}"
    if results is None:
        left_out.append(told if paths.test_results.exists() else _why_no_result(name, files.history))
        return None
    damage.extend([told] if problems else [])
    written = paths.test_results.stat().st_mtime_ns
    return TestedRun(paths, results, predictions, files.is_synthetic, written, _settings(paths))


def _why_no_result(name: str, history: History) -> str:
    if history.finished:
        return f"no result: {name}: it finished, but its test_results.json is not there"
    if history.is_over and history.last is not None:
        return f"no result: {name}: {history.last.cause or 'unknown cause'}"
    if history.is_cancelled:
        return f"no result: {name}: cancelled"
    return f"no result yet: {name}"


def _settings(paths: RunPaths) -> tuple[str, ...]:
    """Return the settings that were typed, the last of each key, without those that do not matter."""
    try:
        overrides = (records.read_json_if_any(paths.plan) or {}).get("overrides")
    except (OSError, ValueError):
        return ()
    if not isinstance(overrides, list) or not all(isinstance(word, str) for word in overrides):
        return ()
    last = {word.partition("=")[0]: word for word in overrides}
    return tuple(last[key] for key in sorted(last) if not _is_no_matter(key))


def _is_no_matter(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in NO_MATTER)


def _asset(tested: list[TestedRun], left_out: list[str]) -> Asset:
    """Choose among one asset's runs; name each that is left out, and why."""
    newest, *others = sorted(tested, key=lambda run: run.written, reverse=True)
    chosen = {newest.label: newest}
    older: list[TestedRun] = []
    for run in others:
        if not _same_bars(run.results, newest.results):
            left_out.append(f"left out: {run.name}, scored on other bars than {newest.paths.run_id}")
        elif run.label in chosen:
            older.append(run)
            left_out.append(f"left out: {run.name}, older than {chosen[run.label].paths.run_id}")
        else:
            chosen[run.label] = run
    runs = tuple(chosen[label] for label in sorted(chosen))
    return Asset(newest.results.symbol, newest, runs, tuple(older))


def _same_bars(one: RegressionResults, other: RegressionResults) -> bool:
    """Say whether persistence, which knows nothing but the bars, did the same in both."""
    if _period(one) != _period(other):
        return False
    first, second = one.rival("persistence"), other.rival("persistence")
    pairs = ((first.mse_price, second.mse_price), (first.mae_price, second.mae_price))
    return all(a is not None and b is not None and math.isclose(a, b, rel_tol=_SAME) for a, b in pairs)


def _period(results: RegressionResults) -> tuple[int, str, str]:
    return results.num_bars, results.first_time, results.last_time
