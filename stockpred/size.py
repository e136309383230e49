"""How big a model is, counted on the model itself without allocating it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc.errors import UserError
from stockpred import discover
from stockpred.config import Experiment
from stockpred.data import universe


def num_parameters_of(tree: dict[str, Any]) -> int | None:
    """Return how many numbers training may change; None where the experiment's universe is not there."""
    experiment = Experiment.model_validate(tree)
    try:
        assets = universe.read(Path(experiment.data.universe))
    except UserError:
        return None
    model = discover.load("stockpred.models", experiment.model.name, where="model.name")
    count: int = model.count_parameters(
        experiment.model, experiment.tokenizer.vocab_size, len(assets.assets), len(assets.categories)
    )
    return count
