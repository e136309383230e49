"""Find a task, learner, model or source by the name of its file: to add one is to add a file.

Constants in which a file declares something about itself are read from its text, so that a check imports no
torch.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from hpc.base.errors import UserError
from hpc.base.text import suggestion

TASKS = "stockpred.tasks"
LEARNERS = "stockpred.learners"
MODELS = "stockpred.models"
SOURCES = "stockpred.data.sources"
CONFIGS = "stockpred.config"


def names(package: str) -> tuple[str, ...]:
    """Return the names of the files and folders in ``package``, such as ``stockpred.models``, sorted."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return tuple(sorted(module.name for module in found if not module.name.startswith("_")))


def load(package: str, name: str, *, where: str | None = None) -> ModuleType:
    """Import the module ``name`` of ``package``; raise UserError with the nearest name when there is none."""
    known = names(package)
    if name not in known:
        kind = package.rpartition(".")[2].removesuffix("s")
        raise UserError(f"there is no {kind} {name!r}", where=where, fix=suggestion(name, known))
    return importlib.import_module(f"{package}.{name}")


def load_task(name: str, part: str = "task") -> ModuleType:
    """Import a part of a task's folder: ``task`` itself, ``report`` or ``summary``."""
    folder = load(TASKS, name, where="task.name")
    return importlib.import_module(f"{folder.__name__}.{part}")


def declared(package: str, name: str, constant: str) -> Any:
    """Return the literal that ``package/name.py`` assigns to ``constant``; None where there is none."""
    return _constants(file_of(package, name)).get(constant)


def file_of(package: str, name: str) -> Path:
    """Return the file of a learner, a model or a source."""
    folders = [Path(folder) for folder in importlib.import_module(package).__path__]
    return next(file for folder in folders if (file := folder / f"{name}.py").exists())


@cache
def _constants(path: Path) -> dict[str, Any]:
    """Return the constants of a file whose values are literals; others are left out."""
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text(), filename=str(path)).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name):
            with suppress(ValueError):
                found[target.id] = ast.literal_eval(node.value)
    return found
