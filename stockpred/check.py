"""Say what is wrong with an experiment before any job is submitted; quick, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc import yamlfile
from hpc.errors import UserError
from hpc.text import suggestion
from stockpred import discover, schema
from stockpred.data import universe

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
        *_unknown_symbol(tree.get("data")),
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


def _unknown_symbol(data: object) -> list[tuple[str, str, str | None]]:
    """Look the chosen asset up in the universe; a universe that cannot be read is told by others."""
    if not isinstance(data, dict) or data.get("symbol") is None or data.get("universe") is None:
        return []
    try:
        assets = universe.read(Path(str(data["universe"])))
    except UserError:
        return []
    symbol = str(data["symbol"])
    if symbol in assets.symbols:
        return []
    return [
        ("data.symbol", f"{symbol!r} is not an asset of {assets.path}", suggestion(symbol, assets.symbols))
    ]


def _row(key: str, what: str, fix: str | None) -> dict[str, str | None]:
    return {"key": key, "what": what, "fix": fix}
