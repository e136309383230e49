"""Cut time into train, validation and test by date, with an embargo of one context before each later part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpc.errors import UserError

NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitRange:
    """One part of time, both ends included, as int64 ns since 1970 UTC.

    Targets lie in [score_start, score_end]; their context may reach back to ``context_start``, the first date
    of the embargo, so that windows of different parts never share a bar.
    """

    context_start: int
    score_start: int
    score_end: int


def cut(
    days: npt.NDArray[np.int64], fractions: Sequence[float], context_length: int, *, where: str | None = None
) -> dict[str, SplitRange]:
    """Split the sorted unique ``days``: ``fractions`` of what two gaps of ``context_length`` days leave.

    Raises UserError where that leaves less than one day for a part.
    """
    usable = len(days) - 2 * context_length
    num_train, num_validation = (int(usable * fraction + 1e-9) for fraction in fractions[:2])
    num_test = usable - num_train - num_validation
    if usable <= 0 or min(num_train, num_validation, num_test) < 1:
        raise UserError(
            f"{len(days)} dates are too few: two gaps of {context_length} leave {max(usable, 0)} to split",
            where=where,
            fix="use more bars, or a smaller model.context_length",
        )
    validation_gap = num_train
    validation = validation_gap + context_length
    test_gap = validation + num_validation
    test = test_gap + context_length
    bounds = ((0, 0, num_train), (validation_gap, validation, test_gap), (test_gap, test, len(days)))
    return {
        name: SplitRange(int(days[context]), int(days[start]), int(days[end - 1]))
        for name, (context, start, end) in zip(NAMES, bounds, strict=True)
    }
