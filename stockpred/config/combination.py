"""Which learners fit a task, and which models fit a learner, by what their files declare.

A learner declares the tasks it can learn (``TASKS``) and what its model must take and give (``MODEL``); a
model declares what it takes and gives (``SIGNATURE``). Axes as everywhere: B samples, T bars, F features.
"""

from __future__ import annotations

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
    return tuple(
        name for name in registry.names(MODELS) if registry.declared(MODELS, name, "SIGNATURE") == wanted
    )


def problems(task: str, learner: str, model: str) -> list[Problem]:
    """Say what does not fit together; the names themselves exist."""
    found: list[Problem] = []
    if learner not in learners_for(task):
        what = f"learner {learner} cannot learn task {task}"
        found.append(("learner.name", what, _one_of(learners_for(task))))
    elif model not in models_for(learner):
        found.append(("model.name", _mismatch(learner, model), _one_of(models_for(learner))))
    return found


def _mismatch(learner: str, model: str) -> str:
    signature = registry.declared(MODELS, model, "SIGNATURE")
    wanted = registry.declared(LEARNERS, learner, "MODEL")
    if signature is None:
        return f"models/{model}.py does not declare what it takes and gives (SIGNATURE)"
    return f"model {model} is {signature}, but learner {learner} trains {wanted}"


def _one_of(fitting: tuple[str, ...]) -> str | None:
    return f"use one of: {', '.join(fitting)}" if fitting else None
