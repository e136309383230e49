"""Say what is wrong with an experiment before any job is submitted; quick, without torch."""

from __future__ import annotations

from typing import Any

from hpc import yamlfile
from hpc.errors import UserError
from hpc.text import suggestion
from stockpred import discover, schema

SOURCES = "stockpred.data.sources"


def problems_of(tree: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return every problem of an experiment's plain tree as {key, what, fix}."""
    try:
        experiment = schema.of(tree)
    except UserError as error:
        return [_row("learner.name", error.what, error.fix)]
    models = f"stockpred.models.{tree['learner']['name']}"
    found = [
        *yamlfile.problems_of(experiment, tree),
        *_unknown_plugin(tree, "data.source", SOURCES),
        *_unknown_plugin(tree, "model.name", models),
    ]
    return [_row(*problem) for problem in found]


def _unknown_plugin(tree: dict[str, Any], key: str, package: str) -> list[tuple[str, str, str | None]]:
    section, field = key.split(".")
    values = tree.get(section)
    name = values.get(field) if isinstance(values, dict) else None
    known = discover.names(package)
    if not isinstance(name, str) or name in known:
        return []
    return [(key, f"there is no {name!r} in {package.replace('.', '/')}", suggestion(name, known))]


def _row(key: str, what: str, fix: str | None) -> dict[str, str | None]:
    return {"key": key, "what": what, "fix": fix}
