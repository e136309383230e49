from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.base.errors import UserError
from stockpred.data import splits


def test_the_rule_by_hand() -> None:
    parts = splits.cut(np.arange(120), (0.7, 0.15, 0.15), 10)
    assert parts["train"] == splits.SplitRange(0, 0, 69)
    assert parts["validation"] == splits.SplitRange(70, 80, 94)
    assert parts["test"] == splits.SplitRange(95, 105, 119)


@given(st.integers(30, 3000), st.integers(1, 200), st.integers(1, 8), st.integers(1, 8))
def test_parts_never_share_a_day_and_each_gap_is_one_context(
    num_days: int, context: int, validation: int, test: int
) -> None:
    fractions = (1 - 0.05 * (validation + test), 0.05 * validation, 0.05 * test)
    days = np.arange(num_days) * 3 + 5
    try:
        parts = splits.cut(days, fractions, context)
    except UserError:
        assert num_days - 2 * context < 40
        return
    readable = [set(days[(days >= p.context_start) & (days <= p.score_end)]) for p in parts.values()]
    assert sum(map(len, readable)) == len(set().union(*readable)) == num_days
    for name in ("validation", "test"):
        gap = (days >= parts[name].context_start) & (days < parts[name].score_start)
        assert gap.sum() == context
    scored = parts["train"].score_end - parts["train"].score_start
    assert scored / 3 + 1 == pytest.approx(fractions[0] * (num_days - 2 * context), abs=1)


def test_too_few_dates_are_reported() -> None:
    with pytest.raises(UserError, match="100 dates are too few: two gaps of 64"):
        splits.cut(np.arange(100), (0.7, 0.15, 0.15), 64)
