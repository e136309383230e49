from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpred.data.series import BarSeries, positions, segments


def _marks(text: str) -> Any:
    """Return marks from a letter per bar: ``x`` left out, ``|`` after a break, ``.`` neither."""
    return SimpleNamespace(
        left_out=np.array([letter == "x" for letter in text], bool),
        break_before=np.array([letter == "|" for letter in text], bool),
    )


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ("", []),
        ("....", [0, 1, 2, 3]),
        ("|.|..", [0, 1, 0, 1, 2]),
        ("|.x..", [0, 1, -1, 0, 1]),
        ("x.xx|.", [-1, 0, -1, -1, 0, 1]),
        ("||x", [0, 0, -1]),
        ("xx", [-1, -1]),
    ],
)
def test_positions_count_the_good_bars_since_the_last_border(marks: str, expected: list[int]) -> None:
    assert positions(_marks(marks)).tolist() == expected


@given(marks=st.text("x|.", max_size=30))
def test_segments_hold_every_good_bar_once_in_order(marks: str) -> None:
    position = positions(_marks(marks))
    rows = [list(range(len(marks)))[one] for one in segments(position)]
    assert [row for one in rows for row in one] == [at for at, letter in enumerate(marks) if letter != "x"]
    assert all(position[one].tolist() == list(range(len(one))) for one in rows)


def test_a_range_holds_open_and_close_and_a_negative_volume_is_unknown() -> None:
    columns: Any = SimpleNamespace(
        open=np.array([5.0, 5, 5]),
        high=np.array([7.0, 4, 5.5]),
        low=np.array([4.0, 3, 5.2]),
        close=np.array([6.0, 4.5, 6]),
        volume=np.array([0.0, -1, 2]),
    )
    series = BarSeries.of(columns, slice(0, 3))
    assert series.high.tolist() == [7, 5, 6]
    assert series.low.tolist() == [4, 3, 5]
    np.testing.assert_array_equal(series.volume, [0, np.nan, 2])
    assert len(BarSeries.of(columns, slice(1, 3))) == 2
