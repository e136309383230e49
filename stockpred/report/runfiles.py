"""Everything a report is made from, read once from the run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc import records, yamlfile
from hpc.errors import UserError
from hpc.ledger import History, Ledger
from hpc.paths import RunPaths
from hpc.records import Row
from stockpred import schema
from stockpred.config import Experiment


@dataclass(frozen=True)
class RunFiles:
    """What every run has, parsed; None or empty where a file is not there or cannot be read."""

    paths: RunPaths
    config_text: str
    experiment: Experiment | None
    learner: str | None
    metrics: tuple[Row, ...]
    history: History
    data_info: dict[str, Any]
    assets: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    status: dict[str, Any]

    @property
    def case(self) -> str:
        return self.paths.case

    @property
    def run_id(self) -> str:
        return self.paths.run_id

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
    experiment = _experiment(paths.config)
    return RunFiles(
        paths=paths,
        config_text=paths.config.read_text() if paths.config.exists() else "",
        experiment=experiment,
        learner=experiment.learner.name if experiment else _learner(paths.config),
        metrics=tuple(records.read_rows(paths.metrics)),
        history=Ledger(paths.events).history(),
        data_info=records.read_json_if_any(paths.data_info) or {},
        assets=tuple((records.read_json_if_any(paths.asset_info) or {}).get("assets", ())),
        provenance=records.read_json_if_any(paths.provenance) or {},
        status=records.read_json_if_any(paths.status) or {},
    )


def _experiment(path: Path) -> Experiment | None:
    """Return the experiment, or None for a config of another version: a report must still be possible."""
    try:
        return schema.load(path)
    except UserError:
        return None


def _learner(path: Path) -> str | None:
    """Return the learner's name alone, from a config of whatever version."""
    try:
        section = yamlfile.plain(yamlfile.load(path)).get("learner")
    except UserError:
        return None
    name = section.get("name") if isinstance(section, dict) else None
    return name if isinstance(name, str) else None
