"""Everything a report is made from, read once from the run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hpc import records
from hpc.errors import UserError
from hpc.ledger import History, Ledger
from hpc.paths import RunPaths
from hpc.records import Row
from stockpred import results
from stockpred.config import Experiment
from stockpred.data.tokenizer import Tokenizer
from stockpred.results import TestResults


@dataclass(frozen=True)
class RunFiles:
    """A run's files, parsed; None or empty where a file is not there."""

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
    return RunFiles(
        case=paths.case,
        run_id=paths.run_id,
        config_text=paths.config.read_text() if paths.config.exists() else "",
        experiment=_experiment(paths.config),
        results=results.read(paths.test_results) if paths.test_results.exists() else None,
        predictions=pd.read_parquet(paths.predictions) if paths.predictions.exists() else None,
        metrics=tuple(records.read_rows(paths.metrics)),
        history=Ledger(paths.events).history(),
        data_info=records.read_json_if_any(paths.data_info) or {},
        assets=tuple((records.read_json_if_any(paths.asset_info) or {}).get("assets", ())),
        provenance=records.read_json_if_any(paths.provenance) or {},
        status=records.read_json_if_any(paths.status) or {},
        tokenizer=Tokenizer.load(paths.tokenizer) if paths.tokenizer.exists() else None,
    )


def _experiment(path: Path) -> Experiment | None:
    """Return the experiment, or None for a config of another version: a report must still be possible."""
    try:
        return Experiment.load(path)
    except UserError:
        return None
