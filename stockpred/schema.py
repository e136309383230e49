"""Which schema an experiment has: that of its learner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hpc import yamlfile
from stockpred import discover
from stockpred.config import Experiment

EXPERIMENTS = "stockpred.experiments"


def of(tree: Mapping[str, Any]) -> type[Experiment]:
    """Return the schema of an experiment's plain tree; raise UserError where its learner is unknown."""
    learner = tree.get("learner")
    name = learner.get("name") if isinstance(learner, Mapping) else None
    module = discover.load(EXPERIMENTS, str(name), where="learner.name")
    return cast(type[Experiment], module.SCHEMA)


def load(path: Path) -> Experiment:
    """Read a run's ``config.yaml`` by the schema of its learner; raise every problem at once."""
    return of(yamlfile.plain(yamlfile.load(path))).load(path)
