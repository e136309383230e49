"""Whether the bars of experiments are where they are said to be, before any job is submitted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hpc.errors import UserError
from stockpred import discover, schema
from stockpred.config import DataConfig
from stockpred.data import universe
from stockpred.data.universe import Universe

SOURCES = "stockpred.data.sources"


def problems_of(trees: Sequence[dict[str, Any]]) -> list[UserError]:
    """Return what is missing or cannot be read, each once; a folder is looked through once."""
    found: dict[str, UserError] = {}
    for config, assets in _wanted(trees):
        source = discover.load(SOURCES, config.source, where="data.source")
        try:
            if hasattr(source, "survey"):
                source.survey(config, assets)
        except UserError as error:
            found.setdefault(str(error), error)
    return list(found.values())


def _wanted(trees: Sequence[dict[str, Any]]) -> Iterator[tuple[DataConfig, Universe]]:
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
