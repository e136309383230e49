"""Which learners fit a task, and which models fit a learner, by what their files declare in literals.

A learner declares the tasks that it can learn (``TASKS``) and what its model must take and give (``MODEL``);
a model declares what it takes and gives (``SIGNATURE``). Axes as everywhere: B samples, T bars, F features, V
tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpc.base.text import suggestion
from stockpred.config import registry
from stockpred.config.registry import LEARNERS, MODELS

Problem = tuple[str, str, str | None]
"""The key that is wrong, what is wrong, and the fix."""


def learners_for(task: str) -> tuple[str, ...]:
    """Return the learners that can learn ``task``."""
    return tuple(
        name
        for name in registry.names(LEARNERS)
        if task in (registry.declared(LEARNERS, name, "TASKS") or ())
    )


def models_for(learner: str) -> tuple[str, ...]:
    """Return the models that ``learner`` can train."""
    wanted = registry.declared(LEARNERS, learner, "MODEL")
    signatures = {name: registry.declared(MODELS, name, "SIGNATURE") for name in registry.names(MODELS)}
    return tuple(name for name, signature in signatures.items() if signature and signature == wanted)


def problems(task: str, learner: str, model: str) -> list[Problem]:
    """Return what does not fit together; each name must be that of a file."""
    if learner not in learners_for(task):
        return [("learner.name", _wrong_learner(task, learner), _one_of(learners_for(task)))]
    if model not in models_for(learner):
        return [("model.name", _wrong_model(learner, model), _one_of(models_for(learner)))]
    return []


def unknown_names(learner: str, optimizers: Iterable[str], metric: str | None) -> list[Problem]:
    """Return what the training settings name that ``learner`` declares not to have (NETWORKS, METRICS)."""
    networks = registry.declared(LEARNERS, learner, "NETWORKS") or ()
    metrics = [*(registry.declared(LEARNERS, learner, "METRICS") or ()), "last"]
    found: list[Problem] = [
        (
            f"training.optimizers.{name}",
            f"learner {learner} has no network {name!r}",
            suggestion(name, networks),
        )
        for name in optimizers
        if name not in networks
    ]
    if metric is not None and metric not in metrics:
        what = f"learner {learner} measures no {metric!r}"
        found.append(("training.selection.metric", what, suggestion(metric, metrics)))
    return found


def _wrong_learner(task: str, learner: str) -> str:
    if registry.declared(LEARNERS, learner, "TASKS") is None:
        return f"learners/{learner}.py does not declare the tasks that it can learn (TASKS)"
    return f"learner {learner} cannot learn task {task}"


def _wrong_model(learner: str, model: str) -> str:
    signature = registry.declared(MODELS, model, "SIGNATURE")
    wanted = registry.declared(LEARNERS, learner, "MODEL")
    if wanted is None:
        return f"learners/{learner}.py does not declare what its model must take and give (MODEL)"
    if signature is None:
        return f"models/{model}.py does not declare what it takes and gives (SIGNATURE)"
    return f"model {model} is {signature}, but learner {learner} trains {wanted}"


def _one_of(fitting: tuple[str, ...]) -> str | None:
    return f"use one of: {', '.join(fitting)}" if fitting else None
