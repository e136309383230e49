"""Which schema an experiment has: that of its task, with the settings that its learner and model bring.

``stockpred/config/TASK.py`` holds ``SCHEMA``, the experiment of a task. A learner or a model with settings of
its own has a file of its name here, whose ``SETTINGS`` takes the place of the task's section.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import create_model

from hpc.base import yamlfile
from hpc.base.errors import UserError
from hpc.base.text import suggestion
from stockpred.config import registry
from stockpred.config.base import Experiment
from stockpred.config.registry import TASKS

SETTINGS = "stockpred.config"
OLDER = "this run was made by an older version, which named its learner and no task"


def of(tree: Mapping[str, Any]) -> type[Experiment]:
    """Return the schema of an experiment's plain tree; raise UserError where its task is unknown."""
    task = name_in(tree, "task")
    if task is None and "learner" in tree:
        raise UserError(OLDER, where="task.name", fix="submit its case again: that begins a new run")
    if task not in registry.names(TASKS):
        fix = suggestion(str(task), registry.names(TASKS))
        raise UserError(f"there is no task {task!r}", where="task.name", fix=fix)
    schema = cast(type[Experiment], registry.load(SETTINGS, task).SCHEMA)
    return _with_own_settings(schema, tree)


def load(path: Path) -> Experiment:
    """Read a run's ``config.yaml`` by the schema of its task; raise every problem at once."""
    try:
        return of(yamlfile.plain(yamlfile.load(path))).load(path)
    except UserError as error:
        if error.what == OLDER:
            raise UserError(error.what, where=str(path), fix=error.fix) from None
        raise


def name_in(tree: Mapping[str, Any], section: str) -> str | None:
    """Return ``section.name`` of a plain tree, None where there is no such word."""
    values = tree.get(section)
    name = values.get("name") if isinstance(values, Mapping) else None
    return name if isinstance(name, str) else None


def _with_own_settings(schema: type[Experiment], tree: Mapping[str, Any]) -> type[Experiment]:
    """Put in the sections for which the named learner or model has a schema of its own."""
    own: dict[str, Any] = {}
    for section in ("learner", "model"):
        name = name_in(tree, section)
        if name in registry.names(SETTINGS):
            settings = getattr(registry.load(SETTINGS, str(name)), "SETTINGS", None)
            if settings is not None:
                own[section] = (settings, ...)
    return create_model(schema.__name__, __base__=schema, **own) if own else schema
