"""How big a model is, counted by its learner without allocating it."""

from __future__ import annotations

from typing import Any

from hpc.errors import UserError
from stockpred import discover, schema


def num_parameters_of(tree: dict[str, Any]) -> int | None:
    """Return how many numbers training may change; None where the experiment's universe is not there."""
    experiment = schema.of(tree).model_validate(tree)
    way = discover.load("stockpred.learners", experiment.learner.name, where="learner.name")
    try:
        return int(way.count_parameters(experiment))
    except UserError:
        return None
