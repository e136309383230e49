"""What the launcher asks about experiments before any job: are they right, are their bars there, how big is
their model.

An experiment comes as a plain tree. Whether it is right and whether its bars are there is answered without
torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hpc.base import yamlfile
from hpc.base.errors import UserError
from hpc.base.text import suggestion
from stockpred.config import combination, registry, schema
from stockpred.config.base import DataConfig
from stockpred.config.registry import LEARNERS, MODELS, SOURCES
from stockpred.data import universe
from stockpred.data.universe import Universe

Tree = dict[str, Any]


def problems_of(tree: Tree) -> list[dict[str, str | None]]:
    """Return every problem of an experiment as {key, what, fix}."""
    try:
        experiment = schema.of(tree)
    except UserError as error:
        return [_row("task.name", error.what, error.fix)]
    unknown = [
        *_unknown_name(tree, "data.source", SOURCES),
        *_unknown_name(tree, "learner.name", LEARNERS),
        *_unknown_name(tree, "model.name", MODELS),
    ]
    found = [
        *yamlfile.problems_of(experiment, tree),
        *unknown,
        *([] if unknown else _misfits(tree)),
        *_unknown_symbol(tree.get("data")),
    ]
    return [_row(*problem) for problem in found]


def missing_bars(trees: Sequence[Tree]) -> list[UserError]:
    """Return what is missing or cannot be read of the bars, each once; a folder is looked through once."""
    found: dict[str, UserError] = {}
    for config, assets in _wanted_bars(trees):
        source = registry.load(SOURCES, config.source, where="data.source")
        try:
            if hasattr(source, "survey"):
                source.survey(config, assets)
        except UserError as error:
            found.setdefault(str(error), error)
    return list(found.values())


def sizes_of(trees: Sequence[Tree]) -> list[dict[str, Any]]:
    """Return {size} of each experiment's model, or {what, where, fix} of why it cannot be built."""
    return [_size_of(tree) for tree in trees]


def _size_of(tree: Tree) -> dict[str, Any]:
    experiment = schema.of(tree).model_validate(tree)
    try:
        return {"size": int(registry.load_task(experiment.task.name).count_parameters(experiment))}
    except UserError as error:
        return dict(error.row)


def _misfits(tree: Tree) -> list[combination.Problem]:
    names = [schema.name_in(tree, section) for section in ("task", "learner", "model")]
    task, learner, model = names
    return combination.problems(task, learner, model) if task and learner and model else []


def _unknown_name(tree: Tree, key: str, package: str) -> list[combination.Problem]:
    section, field = key.split(".")
    values = tree.get(section)
    name = values.get(field) if isinstance(values, dict) else None
    known = registry.names(package)
    if not isinstance(name, str) or name in known:
        return []
    return [(key, f"there is no {name!r} in {package.replace('.', '/')}", suggestion(name, known))]


def _unknown_symbol(data: object) -> list[combination.Problem]:
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


def _wanted_bars(trees: Sequence[Tree]) -> Iterator[tuple[DataConfig, Universe]]:
    """Yield each place of bars with all assets that are wanted from it."""
    groups: dict[str, list[DataConfig]] = {}
    for tree in trees:
        config = schema.of(tree).model_validate(tree).data
        place = json.dumps([config.source, config.dir, config.universe])
        groups.setdefault(place, []).append(config)
    for configs in groups.values():
        assets = universe.read(Path(configs[0].universe))
        symbols = {config.symbol for config in configs}
        if None not in symbols:
            assets = Universe(assets.path, tuple(one for one in assets.assets if one.symbol in symbols))
        yield configs[0], assets


def _row(key: str, what: str, fix: str | None) -> dict[str, str | None]:
    return {"key": key, "what": what, "fix": fix}
