"""Look things up by name, such as factors and indicators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from hpc.base.errors import UserError, raise_all
from hpc.base.text import suggestion

T = TypeVar("T")


def find(kind: str, known: Mapping[str, T], names: Iterable[str]) -> list[T]:
    """Return what is known by these names; raise one UserError for all that are not known."""
    names = list(names)
    raise_all(
        [
            UserError(f"there is no {kind} {name!r}", fix=suggestion(name, known))
            for name in names
            if name not in known
        ]
    )
    return [known[name] for name in names]
