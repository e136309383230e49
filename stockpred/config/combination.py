"""Which learners fit a task, and which models fit a learner, by what their files declare in literals.

A learner declares the tasks that it can learn (``TASKS``) and what its model must take and give (``MODEL``);
a model declares what it takes and gives (``SIGNATURE``). Axes as everywhere: B samples, T bars, F features, V
tokens of the vocabulary. What a task's test calls of a learner beyond what the core does stands in its
``task.py``, as a protocol named ``TaskLearner``.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpc.base.errors import UserError
from hpc.base.text import suggestion
from stockpred.config import registry
from stockpred.config.registry import LEARNERS, MODELS, TASKS

TASK_LEARNER = "TaskLearner"
FOUNDATIONS = frozenset({"Learner", "Module", "ABC", "object"})
"""Classes that a learner's file builds on, and that bring none of the methods a task asks for."""

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
    missing = _missing(task, registry.methods(LEARNERS, learner, foundations=FOUNDATIONS))
    if missing:
        return [("learner.name", _lacks(learner, task), _define(learner, missing))]
    if model not in models_for(learner):
        return [("model.name", _wrong_model(learner, model), _one_of(models_for(learner)))]
    return []


def require_methods(task: str, name: str, learner: object) -> None:
    """Raise UserError where the learner ``name`` lacks a method that ``task`` calls.

    Before training, for what the text of a file cannot tell: a class that builds on one of another file.
    """
    missing = _missing(task, frozenset(dir(learner)))
    if missing:
        raise UserError(_lacks(name, task), where="learner.name", fix=_define(name, missing))


def unknown_names(learner: str, optimizers: Iterable[str], metric: str | None) -> list[Problem]:
    """Return what the training settings name that ``learner`` declares not to have (NETWORKS, METRICS)."""
    networks = registry.declared(LEARNERS, learner, "NETWORKS") or ()
    declared = registry.declared(LEARNERS, learner, "METRICS")
    metrics = [*(declared or ()), "last"]
    found: list[Problem] = [
        (
            f"training.optimizers.{name}",
            f"learner {learner} has no network {name!r}",
            suggestion(name, networks) if networks else f"write NETWORKS in stockpred/learners/{learner}.py",
        )
        for name in optimizers
        if name not in networks
    ]
    if metric is not None and metric not in metrics:
        what = f"learner {learner} measures no {metric!r}"
        if declared is None:
            what = f"learners/{learner}.py does not declare the metrics that it measures (METRICS)"
        found.append(("training.selection.metric", what, suggestion(metric, metrics)))
    return found


def _missing(task: str, methods: frozenset[str] | None) -> list[str]:
    """Return the signatures that a task asks for beyond ``methods``; none where these are unknown."""
    asked = registry.signatures(TASKS, f"{task}/task", TASK_LEARNER)
    return [] if methods is None else [asked[name] for name in asked if name not in methods]


def _lacks(learner: str, task: str) -> str:
    return f"learner {learner} lacks what the test of task {task} calls"


def _define(learner: str, missing: Iterable[str]) -> str:
    return f"define in learners/{learner}.py: {'; '.join(missing)} (see {TASK_LEARNER} in docs/learners.md)"


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
