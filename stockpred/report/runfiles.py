"""Everything a report is made from, read once from the run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.base import records, yamlfile
from hpc.base.errors import UserError
from hpc.base.records import Row
from hpc.run.history import History, Ledger
from hpc.run.paths import RunPaths
from stockpred.config import schema
from stockpred.config.base import Experiment


@dataclass(frozen=True)
class EarlyStop:
    """A training that ended before its last step; ``patience`` counts evaluations, None where not known."""

    step: int
    total_steps: int
    patience: int | None


@dataclass(frozen=True)
class RunFiles:
    """What every run has, parsed; None or empty where a file is not there or cannot be read.

    ``tree`` is ``config.yaml`` as it stands, ``experiment`` the same by the schema of its task.
    """

    paths: RunPaths
    config_text: str
    experiment: Experiment | None
    tree: dict[str, Any]
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
    def task(self) -> str | None:
        return self.setting("task", "name")

    @property
    def is_of_older_version(self) -> bool:
        """Whether its config names a learner but no task, as versions did before tasks had names."""
        return self.task is None and "learner" in self.tree

    def setting(self, section: str, name: str) -> str | None:
        """Return one setting as text, of a config of whatever version; None where it is not there."""
        found = self.tree.get(section)
        value = found.get(name) if isinstance(found, dict) else None
        return value if isinstance(value, str) else None

    @property
    def first_evaluation(self) -> int | None:
        """The first step at which validation was scored."""
        return next((row["step"] for row in self.metrics if row.get("validation")), None)

    @property
    def fold(self) -> str:
        """Which fold the run is of, such as `` fold 2``; nothing where there is one only."""
        fold = self.setting("data", "fold")
        return f" fold {fold}" if fold and fold != "null" else ""

    @property
    def early_stop(self) -> EarlyStop | None:
        """Where patience ended training; None while it may go on, and where it went to its last step."""
        step, total_steps = self.status.get("step"), self.status.get("total_steps")
        if not self.history.finished or not isinstance(step, int) or not isinstance(total_steps, int):
            return None
        wanted = self.experiment.training.patience if self.experiment else None
        patience = wanted if isinstance(wanted, int) else None
        return EarlyStop(step, total_steps, patience) if step < total_steps else None

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
        paths=paths,
        config_text=paths.config.read_text() if paths.config.exists() else "",
        experiment=_experiment(paths.config),
        tree=_tree(paths.config),
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


def _tree(path: Path) -> dict[str, Any]:
    """Return the config as plain values, of whatever version it is."""
    try:
        tree: dict[str, Any] = yamlfile.plain(yamlfile.load(path))
    except UserError:
        return {}
    return tree
