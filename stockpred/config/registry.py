"""Find a task, learner, model or source by the name of its file: to add one is to add a file.

What a file declares about itself, constants and the methods of its classes, is read from its text, so that a
check imports no torch.
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


def signatures(package: str, name: str, class_name: str) -> dict[str, str]:
    """Return a class's methods, each as ``name(parameters) -> result``; none where there is no such class."""
    methods = _methods(_classes(file_of(package, name)).get(class_name))
    return {
        method.name: f"{method.name}({ast.unparse(method.args)})"
        + (f" -> {ast.unparse(method.returns)}" if method.returns else "")
        for method in methods
    }


def methods(package: str, name: str, *, foundations: frozenset[str]) -> frozenset[str] | None:
    """Return the names of all methods that a file's classes have beyond those of ``foundations``.

    None where that cannot be told from the text: a class builds on one of another file, or there is no class.
    """
    classes = _classes(file_of(package, name))
    bases = {ast.unparse(base).rpartition(".")[2] for node in classes.values() for base in node.bases}
    if not classes or bases - classes.keys() - foundations:
        return None
    return frozenset(method.name for node in classes.values() for method in _methods(node))


def file_of(package: str, name: str) -> Path:
    """Return the file of a learner, a model or a source; of a task the file ``NAME/task``."""
    folders = [Path(folder) for folder in importlib.import_module(package).__path__]
    return next(file for folder in folders if (file := folder / f"{name}.py").exists())


@cache
def _constants(path: Path) -> dict[str, Any]:
    """Return the constants of a file whose values are literals; others are left out."""
    found: dict[str, Any] = {}
    for node in _parsed(path).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name):
            with suppress(ValueError):
                found[target.id] = ast.literal_eval(node.value)
    return found


def _classes(path: Path) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in _parsed(path).body if isinstance(node, ast.ClassDef)}


def _methods(node: ast.ClassDef | None) -> list[ast.FunctionDef]:
    return [method for method in node.body if isinstance(method, ast.FunctionDef)] if node else []


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))
