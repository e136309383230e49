"""How big a model is, counted on the model itself without allocating it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hpc.errors import UserError
from stockpred import discover
from stockpred.config import Experiment, ModelConfig
from stockpred.data import universe
from stockpred.data.tokenizer import FEATURES
from stockpred.train.learner import num_parameters


def num_parameters_of(tree: dict[str, Any]) -> int | None:
    """Return how many numbers training may change; None where the experiment's universe is not there."""
    experiment = Experiment.model_validate(tree)
    try:
        assets = universe.read(Path(experiment.data.universe))
    except UserError:
        return None
    vocab_size = experiment.tokenizer.vocab_size
    return count(experiment.model, vocab_size, len(assets.assets), len(assets.categories))


def count(config: ModelConfig, vocab_size: int, num_assets: int, num_categories: int) -> int:
    """Return the size of the model that ``config`` describes."""
    architecture = discover.load("stockpred.models", config.name, where="model.name")
    with torch.device("meta"):
        model = architecture.build(
            config,
            centroids=torch.empty(vocab_size, len(FEATURES)),
            log_prior=torch.empty(vocab_size),
            num_assets=num_assets,
            num_categories=num_categories,
        )
    return num_parameters(model)
