"""Cut time into train, validation and test by date, with an embargo of one context before each later part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date
from typing import Any

import numpy as np

from hpc.base.errors import UserError
from stockpred.config.base import Fractions
from stockpred.data.arrays import Ints
from stockpred.data.times import begin_of, iso_date

NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitRange:
    """One part of time, both ends included, as int64 ns since 1970 UTC.

    Targets lie in [score_start, score_end]; their context may reach back to ``context_start``, the first date
    of the embargo, so that windows of different parts never share a bar. (A bar's change also reads the close
    before it.)
    """

    context_start: int
    score_start: int
    score_end: int


def cut(
    times: Ints, split: Fractions | tuple[date, date], context_length: int, *, where: str | None = None
) -> dict[str, SplitRange]:
    """Split the sorted unique ``times`` of bars; the embargo before validation and test is one context each.

    ``split`` holds the fractions of what the two gaps leave, or the dates from which validation and test are
    scored. Raises UserError where that leaves less than one time for a part.
    """
    if len(split) == 3:
        validation, test = _by_fractions(len(times), split, context_length)
    else:
        validation, test = (int(np.searchsorted(times, begin_of(first))) for first in split)
    sizes = (validation - context_length, test - context_length - validation, len(times) - test)
    if min(sizes) < 1:
        raise _too_few(times, split, context_length, where)
    bounds = (
        (0, 0, validation - context_length),
        (validation - context_length, validation, test - context_length),
        (test - context_length, test, len(times)),
    )
    return {
        name: SplitRange(int(times[context]), int(times[start]), int(times[end - 1]))
        for name, (context, start, end) in zip(NAMES, bounds, strict=True)
    }


def describe(part: SplitRange) -> dict[str, Any]:
    """Return the part's bounds as numbers, and as dates for people."""
    dates = {
        f"{name}_date": str(np.datetime64(bound, "ns").astype("datetime64[s]"))
        for name, bound in asdict(part).items()
    }
    return asdict(part) | dates


def read(described: Mapping[str, Mapping[str, Any]]) -> dict[str, SplitRange]:
    """Read the parts back from what ``describe`` returned."""
    return {
        name: SplitRange(**{field.name: int(part[field.name]) for field in fields(SplitRange)})
        for name, part in described.items()
    }


def _by_fractions(num_times: int, fractions: Fractions, context_length: int) -> tuple[int, int]:
    """Return the first scored time of validation and of test, by its number."""
    usable = num_times - 2 * context_length
    num_train, num_validation = (int(usable * fraction + 1e-9) for fraction in fractions[:2])
    validation = num_train + context_length
    return validation, validation + num_validation + context_length


def _too_few(
    times: Ints, split: Fractions | tuple[date, date], context_length: int, where: str | None
) -> UserError:
    if len(split) == 3:
        usable = max(len(times) - 2 * context_length, 0)
        what = f"{len(times)} dates are too few: two gaps of {context_length} leave {usable} to split"
        return UserError(what, where=where, fix="use more bars, or a smaller model.context_length")
    first, last = iso_date(times[0]), iso_date(times[-1])
    what = (
        f"validation from {split[0]} and test from {split[1]} do not fit bars from {first} to {last} "
        f"with {context_length} dates left out before each"
    )
    return UserError(what, where=where, fix="choose other dates, or fractions such as [0.70, 0.15, 0.15]")
