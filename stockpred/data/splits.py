"""Training, validation and test as numbers; an array of them says to which each bar belongs."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

Splits = npt.NDArray[np.int8]
"""A ``Split`` for each of N bars."""


class Split(IntEnum):
    """What a stretch of time is used for. The higher the number, the later it may be looked at."""

    OUTSIDE = -1
    TRAIN = 0
    VALIDATION = 1
    TEST = 2

    @property
    def text(self) -> str:
        """The name in settings, files and reports."""
        return self.name.lower()


USED: Final = (Split.TRAIN, Split.VALIDATION, Split.TEST)
"""All but OUTSIDE, in the order of time."""
