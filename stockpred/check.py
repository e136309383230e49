"""Say what is wrong with an experiment before any job is submitted; quick, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc import yamlfile
from hpc.text import suggestion
from stockpred.config import Experiment

PLUGINS = {"data.source": "data/sources", "model.name": "models", "learner.name": "learners"}


def problems_of(tree: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return every problem of an experiment's plain tree as {key, what, fix}."""
    found = [*yamlfile.problems_of(Experiment, tree), *_unknown_plugins(tree)]
    return [{"key": key, "what": what, "fix": fix} for key, what, fix in found]


def _unknown_plugins(tree: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    problems: list[tuple[str, str, str | None]] = []
    for key, folder in PLUGINS.items():
        section, field = key.split(".")
        values = tree.get(section)
        name = values.get(field) if isinstance(values, dict) else None
        known = names_in(folder)
        if isinstance(name, str) and name not in known:
            problems.append((key, f"there is no {name!r} in stockpred/{folder}", suggestion(name, known)))
    return problems


def names_in(folder: str) -> list[str]:
    """Return the plugins of a folder: one file, one name."""
    return sorted(path.stem for path in (Path(__file__).parent / folder).glob("[a-z]*.py"))
