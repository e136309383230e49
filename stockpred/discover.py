"""Find a plugin (source, model, learner) by its file name: one more is one file more, and no list to edit."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from hpc.errors import UserError
from hpc.text import suggestion


def names(package: str) -> tuple[str, ...]:
    """Return the names of the modules in ``package``, such as ``stockpred.models``, in alphabetic order."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    modules = (module.name for module in found if not module.ispkg)
    return tuple(sorted(name for name in modules if not name.startswith("_")))


def load(package: str, name: str, *, where: str | None = None) -> ModuleType:
    """Import the module ``name`` of ``package``; raise UserError with the nearest name when there is none."""
    known = names(package)
    if name not in known:
        kind = package.rpartition(".")[2].removesuffix("s")
        raise UserError(f"there is no {kind} {name!r}", where=where, fix=suggestion(name, known))
    return importlib.import_module(f"{package}.{name}")
