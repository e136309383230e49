"""Small bars, universes and experiments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpc.run.paths import RunPaths
from stockpred.config.forecast import ForecastExperiment
from stockpred.config.next_token import NextTokenExperiment
from stockpred.data import bars as bar_table
from tests.stockpred.token_market import MakeMarket, market

REPOSITORY = Path(__file__).resolve().parents[2]
MakeExperiment = Callable[..., NextTokenExperiment]
MakeForecastExperiment = Callable[..., ForecastExperiment]
MakeBars = Callable[..., pd.DataFrame]
WriteUniverse = Callable[..., Path]


@pytest.fixture
def write_universe(tmp_path: Path) -> WriteUniverse:
    def write(*rows: str, header: str = "symbol,name,category,yahoo,binance,files") -> Path:
        path = tmp_path / "universe.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


@pytest.fixture
def make_bars() -> MakeBars:
    return _bars


def _bars(symbol: str = "X", count: int = 200, seed: int = 0, start: str = "2020-01-01") -> pd.DataFrame:
    """Return a random walk of 1 % a day with valid candles."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(count)))
    opened = np.r_[100.0, close[:-1]] * np.exp(0.002 * rng.standard_normal(count))
    return pd.DataFrame(
        {
            "symbol": symbol,
            "time": pd.date_range(start, periods=count, tz="UTC").astype(bar_table.TIME_TYPE),
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(0.005 * np.abs(rng.standard_normal(count))),
            "low": np.minimum(opened, close) * np.exp(-0.005 * np.abs(rng.standard_normal(count))),
            "close": close,
            "volume": np.exp(10 + 0.3 * rng.standard_normal(count)),
        }
    )


@pytest.fixture
def make_experiment() -> MakeExperiment:
    return _experiment


def _experiment(universe: Path, **changes: Any) -> NextTokenExperiment:
    """Return a small experiment on synthetic bars; ``data__end="..."`` changes one setting."""
    tree = _common(universe) | {
        "tokenizer": {
            "vocab_size": 32, "volatility_span": 60, "volume_window": 20, "clip": 5.0, "seed": 0,
            "max_fit_bars": 100_000,
        },
        "model": {
            "name": "market_gpt", "context_length": 16, "d_model": 8, "num_layers": 1, "num_heads": 1,
            "d_ff": 8, "dropout": 0.0, "asset_embed_dim": 2, "category_embed_dim": 2,
            "token_embedding": "candle",
        },
        "task": {"name": "next_token", "test": "once"},
        "learner": {"name": "language_model"},
    }  # fmt: skip
    tree["data"] |= {"stride": 8, "score_stride": None}
    return NextTokenExperiment.model_validate(_changed(tree, changes))


@pytest.fixture
def make_regression_experiment() -> MakeForecastExperiment:
    return _regression_experiment


def _regression_experiment(universe: Path, **changes: Any) -> ForecastExperiment:
    """Return a small experiment on one asset, X; ``data__end="..."`` changes one setting."""
    tree = _common(universe) | {
        "series": {
            "inputs": "changes",
            "features": {"us_equity": ["open", "high", "low", "close", "volume"], "index": ["close"]},
        },
        "model": {"name": "mlp", "context_length": 8, "hidden_dim": 8, "num_layers": 1, "dropout": 0.0},
        "task": {"name": "forecast", "test": "once"},
        "learner": {"name": "supervised"},
    }
    tree["data"]["symbol"] = "X"
    return ForecastExperiment.model_validate(_changed(tree, changes))


def _common(universe: Path) -> dict[str, dict[str, Any]]:
    return {
        "data": {
            "source": "synthetic", "dir": None, "universe": str(universe), "symbol": None, "start": None,
            "end": None, "split": (0.7, 0.15, 0.15), "max_hole_sessions": 5, "embargo": 5,
            "folds": {"kind": "expanding", "number": 1, "test_groups": None}, "fold": None,
            "synthetic": {"num_bars": 400, "seed": 1, "start": "2020-01-01"},
        },
        "training": {
            "seed": 1, "epochs": 1, "max_steps": None, "batch_size": 4, "accumulate": 1, "lr": 1e-3,
            "min_lr_fraction": 0.1, "warmup_fraction": 0.1, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.95,
            "gradient_clip": 1.0, "optimizers": {}, "precision": "fp32", "device": "cpu", "patience": 3,
            "selection": {"metric": None, "first_step": 0},
            "evaluations_per_epoch": 1.0, "checkpoint_every_s": 60.0, "keep_checkpoints": 2, "compile": False,
            "exact": True, "tensorboard": False, "num_workers": 0, "parallel": "ddp",
            "gradient_checkpointing": False, "gradient_compression": "none", "lr_batch": None,
            "collective_timeout_s": 600.0, "nccl_debug": None,
        },
    }  # fmt: skip


def _changed(tree: dict[str, dict[str, Any]], changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    for key, value in changes.items():
        section, *path, last = key.split("__")
        place = tree[section]
        for name in path:
            place = place[name]
        place[last] = value
    return tree


@pytest.fixture
def run_paths(tmp_path: Path) -> RunPaths:
    root = tmp_path / "runs" / "case" / "run"
    root.mkdir(parents=True)
    return RunPaths(root)


@pytest.fixture
def make_market() -> MakeMarket:
    return market
