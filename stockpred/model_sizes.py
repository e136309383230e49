"""How many parameters a model has, counted once: a cache that is addressed by what decides the number.

To count means to import torch and build the model, which takes seconds; the number is kept in the user's
cache directory under a hash of the experiment without its training section, the universe's content and the
source code. Whatever changes one of them changes the hash, so an entry is never wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from hpc.base import records
from hpc.base.errors import UserError
from stockpred.config import registry, schema
from stockpred.config.registry import LEARNERS, MODELS, TASKS

NOT_IN_THE_MODEL = ("training",)
PACKAGE = Path(__file__).parent
SEARCHED = (TASKS, LEARNERS, MODELS, "stockpred.config")

Tree = dict[str, Any]


def size_of(tree: Tree) -> int:
    """Return the number of parameters of an experiment's model; raise UserError where it cannot be built."""
    entry = _directory() / f"{_key(tree)}.json"
    known = records.read_json_if_any(entry)
    if known is not None:
        return int(known["size"])
    size = _count(tree)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        records.write_json(entry, {"size": size})
    return size


def _count(tree: Tree) -> int:
    experiment = schema.of(tree).model_validate(tree)
    task = registry.load_task(experiment.task.name)
    try:
        return int(task.count_parameters(experiment))
    except UserError:
        raise
    except Exception as error:
        what = f"the model cannot be built: {type(error).__name__}: {error}"
        raise UserError(what, where="model.name", fix="mend its file in stockpred/models") from error


def _directory() -> Path:
    """Return the cache's directory (XDG base directory specification)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "stockpred" / "model_sizes"


def _key(tree: Tree) -> str:
    """Return the hash of everything that a model's size depends on."""
    experiment = {name: section for name, section in tree.items() if name not in NOT_IN_THE_MODEL}
    digest = hashlib.sha256(json.dumps(experiment, sort_keys=True).encode())
    digest.update(_content(str(tree["data"]["universe"])))
    digest.update(_source_digest())
    return digest.hexdigest()


def _content(universe: str) -> bytes:
    try:
        return Path(universe).read_bytes()
    except OSError as error:
        what = f"the universe {universe!r} cannot be read: {error.strerror}"
        raise UserError(what, where="data.universe", fix="write symbol,name,category lines") from None


@cache
def _source_digest() -> bytes:
    """Return the hash of this package's source code, and of the folders that were added to be searched."""
    searched = [folder for package in SEARCHED for folder in importlib.import_module(package).__path__]
    added = {Path(folder) for folder in searched if not Path(folder).is_relative_to(PACKAGE)}
    digest = hashlib.sha256()
    for root in (PACKAGE, *sorted(added)):
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.digest()
