"""Say what is wrong with an experiment before any job is submitted; quick, without torch."""

from __future__ import annotations

from typing import Any

from hpc import yamlfile
from hpc.text import suggestion
from stockpred import discover
from stockpred.config import Experiment

PLUGINS = {
    "data.source": "stockpred.data.sources",
    "model.name": "stockpred.models",
    "learner.name": "stockpred.learners",
}


def problems_of(tree: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return every problem of an experiment's plain tree as {key, what, fix}."""
    found = [*yamlfile.problems_of(Experiment, tree), *_unknown_plugins(tree)]
    return [{"key": key, "what": what, "fix": fix} for key, what, fix in found]


def _unknown_plugins(tree: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    problems: list[tuple[str, str, str | None]] = []
    for key, package in PLUGINS.items():
        section, field = key.split(".")
        values = tree.get(section)
        name = values.get(field) if isinstance(values, dict) else None
        known = discover.names(package)
        if isinstance(name, str) and name not in known:
            problems.append(
                (key, f"there is no {name!r} in {package.replace('.', '/')}", suggestion(name, known))
            )
    return problems
