"""The schema of an experiment: that of its task, with the settings of its learner and model.

``stockpred/config/TASK.py`` holds ``SCHEMA``, the experiment of a task. A learner or a model with settings of
its own has a file of its name here, with ``SETTINGS``: a subclass of LearnerConfig or ModelConfig that takes
the place of the section in the task's schema, and that extends the section where the task's schema has one.
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
from stockpred.config.base import ConfigSection, Experiment, LearnerConfig, ModelConfig
from stockpred.config.registry import CONFIGS, TASKS

OWN_SETTINGS: Mapping[str, type[ConfigSection]] = {"learner": LearnerConfig, "model": ModelConfig}
"""The sections that may have settings of their own, and what these extend."""
OLDER = "this run was made by an older version, which named its learner and no task"


def of(tree: Mapping[str, Any]) -> type[Experiment]:
    """Return the schema of an experiment's plain tree; raise UserError where its task is unknown."""
    task = name_in(tree, "task")
    if task is None and "learner" in tree:
        raise UserError(OLDER, where="task.name", fix="submit its case again: that begins a new run")
    if task not in registry.names(TASKS):
        fix = suggestion(str(task), registry.names(TASKS))
        raise UserError(f"there is no task {task!r}", where="task.name", fix=fix)
    schema = cast(type[Experiment], registry.load(CONFIGS, task).SCHEMA)
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
    """Return ``section.name`` of a plain tree; None where there is no text."""
    values = tree.get(section)
    name = values.get("name") if isinstance(values, Mapping) else None
    return name if isinstance(name, str) else None


def _with_own_settings(schema: type[Experiment], tree: Mapping[str, Any]) -> type[Experiment]:
    """Replace the sections for which the named learner or model has settings of its own."""
    found = {section: _own_settings(name_in(tree, section), kind) for section, kind in OWN_SETTINGS.items()}
    fields: dict[str, Any] = {section: (own, ...) for section, own in found.items() if own is not None}
    return create_model(schema.__name__, __base__=schema, **fields) if fields else schema


def _own_settings(name: str | None, kind: type[ConfigSection]) -> type[ConfigSection] | None:
    """Return the settings of the learner or model ``name``; None where it has none."""
    if name not in registry.names(CONFIGS):
        return None
    settings = getattr(registry.load(CONFIGS, name), "SETTINGS", None)
    return settings if isinstance(settings, type) and issubclass(settings, kind) else None
