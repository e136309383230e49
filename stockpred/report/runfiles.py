"""Everything a report is made from, read once from the run directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from hpc import records
from hpc.errors import UserError
from hpc.ledger import History, Ledger
from hpc.paths import RunPaths
from hpc.records import Row
from stockpred import schema
from stockpred.config import Experiment
from stockpred.data.tokenizer import Tokenizer
from stockpred.results import next_bar as results
from stockpred.results.next_bar import TestResults

T = TypeVar("T")
PREDICTIONS = (
    *("symbol", "category", "time", "nll", "rival_nll", "realised_return", "close", "previous_close"),
    *("q05", "q25", "q75", "q95"),
)
"""The columns of ``predictions.parquet`` that are drawn."""


@dataclass(frozen=True)
class RunFiles:
    """A run's files, parsed; None or empty where a file is not there or cannot be read.

    ``notes`` name the files that are there but cannot be read.
    """

    case: str
    run_id: str
    config_text: str
    experiment: Experiment | None
    results: TestResults | None
    predictions: pd.DataFrame | None
    metrics: tuple[Row, ...]
    history: History
    data_info: dict[str, Any]
    assets: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    status: dict[str, Any]
    tokenizer: Tokenizer | None
    notes: tuple[str, ...] = ()

    @property
    def best_step(self) -> int | None:
        return self.results.evaluated.best_step if self.results else self.status.get("best_step")

    @property
    def source(self) -> str | None:
        named = self.data_info.get("source")
        if isinstance(named, str):
            return named
        return self.experiment.data.source if self.experiment else None

    @property
    def is_synthetic(self) -> bool:
        return self.source == "synthetic"


def read(paths: RunPaths) -> RunFiles:
    notes: list[str] = []
    return RunFiles(
        case=paths.case,
        run_id=paths.run_id,
        config_text=paths.config.read_text() if paths.config.exists() else "",
        experiment=_experiment(paths.config),
        results=_read_or_note(paths.test_results, results.read, notes),
        predictions=_read_or_note(paths.predictions, _predictions, notes),
        metrics=tuple(records.read_rows(paths.metrics)),
        history=Ledger(paths.events).history(),
        data_info=records.read_json_if_any(paths.data_info) or {},
        assets=tuple((records.read_json_if_any(paths.asset_info) or {}).get("assets", ())),
        provenance=records.read_json_if_any(paths.provenance) or {},
        status=records.read_json_if_any(paths.status) or {},
        tokenizer=_read_or_note(paths.tokenizer, Tokenizer.load, notes),
        notes=tuple(notes),
    )


def _read_or_note(path: Path, parse: Callable[[Path], T], notes: list[str]) -> T | None:
    """Return what the file holds; note a file that is damaged or of another version, and leave it out."""
    if not path.exists():
        return None
    try:
        return parse(path)
    except (OSError, ValueError, KeyError, TypeError, UserError):
        notes.append(f"left out: {path.name}, which is damaged or of another version")
        return None


def _predictions(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path, columns=list(PREDICTIONS))


def _experiment(path: Path) -> Experiment | None:
    """Return the experiment, or None for a config of another version: a report must still be possible."""
    try:
        return schema.load(path)
    except UserError:
        return None
