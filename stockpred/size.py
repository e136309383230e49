"""How big a model is, counted by its learner without allocating it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpc.errors import UserError
from stockpred import discover, schema


def sizes_of(trees: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return {size} of each experiment's model, or {what, where, fix} of why it cannot be built."""
    return [_size_of(tree) for tree in trees]


def _size_of(tree: dict[str, Any]) -> dict[str, Any]:
    experiment = schema.of(tree).model_validate(tree)
    way = discover.load("stockpred.learners", experiment.learner.name, where="learner.name")
    try:
        return {"size": int(way.count_parameters(experiment))}
    except UserError as error:
        return dict(error.row)
