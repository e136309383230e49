"""What a rival is: a simple forecaster that a model has to beat on the same bars; found by its file's name.

A file in ``stockpred/score/rivals`` declares ``LABEL`` (its name for people), ``KIND``, and
``forecast(history) -> RivalForecast``. One that stands on an optional library declares
``available() -> bool`` as well, and is left out where that is false.

The forecast at bar n is one of the return that ends there. It reads bars before n, constants that were fitted
on training targets, and settings that were chosen on validation targets. Test returns choose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, cast

from hpc.base.errors import UserError
from stockpred.config import registry
from stockpred.data.arrays import Floats
from stockpred.score.distributions import Distribution
from stockpred.score.history import History

RIVALS = "stockpred.score.rivals"


class Kind(StrEnum):
    """What a rival states about a return: its value, its distribution, or its rank among the assets."""

    POINT = "point"
    DISTRIBUTION = "distribution"
    CROSS_SECTION = "cross_section"


@dataclass(frozen=True, eq=False)
class RivalForecast:
    """What one rival says about the return of each of N bars; None where it makes no such statement.

    Of ``signal`` only the order of the assets at one time counts, higher for a higher return. A distribution
    around zero says nothing of the mean, so it comes without ``expected_return``. ``settings`` are what was
    fitted and chosen, for the report. Bars that are no targets may have NaN.
    """

    expected_return: Floats | None = None
    distribution: Distribution | None = None
    signal: Floats | None = None
    settings: Mapping[str, float] = field(default_factory=dict)


class Rival(Protocol):
    """A module in ``RIVALS``."""

    @property
    def LABEL(self) -> str: ...

    @property
    def KIND(self) -> Kind: ...

    def forecast(self, history: History) -> RivalForecast: ...


def names() -> tuple[str, ...]:
    """Return the names of all rivals whose libraries are installed, sorted."""
    return tuple(name for name in registry.names(RIVALS) if _is_available(name))


def unavailable() -> tuple[str, ...]:
    """Return the names of the rivals that want a library which is not installed, sorted."""
    return tuple(name for name in registry.names(RIVALS) if not _is_available(name))


def load(name: str) -> Rival:
    """Return the rival of that name; raise UserError where there is none, or its library is missing."""
    module = registry.load(RIVALS, name)
    if not _is_available(name):
        raise UserError(
            f"the rival {name!r} wants a library that is not installed",
            fix="pip install 'stockpred[rivals]', or leave it out",
        )
    return cast(Rival, module)


def _is_available(name: str) -> bool:
    check = getattr(registry.load(RIVALS, name), "available", None)
    return check is None or bool(check())
