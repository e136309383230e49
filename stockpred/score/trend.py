"""How far a price has come over its last bars."""

from __future__ import annotations

import numpy as np

from stockpred.data.arrays import Floats
from stockpred.score.history import History


def growth(history: History, window: int) -> Floats:
    """Return the log return over the last ``window`` returns before each bar, of as many as there are, [N].

    Zero where none is known: such an asset stands among those that did not move.
    """
    change = history.change
    log_return = np.log1p(np.where(change > -1.0, change, np.nan))
    total = history.lagged_sum(log_return, window)
    return np.where(np.isfinite(total), total, 0.0)
