from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from stockpred.data.factors import windows

sizes = st.integers(1, 70)
lengths = st.integers(1, 90)
seeds = st.integers(0, 1000)


def _each_window(values: np.ndarray, window: int) -> np.ndarray:
    """Return the last ``window`` values at each place, NaN before the first."""
    return sliding_window_view(np.r_[np.full(window - 1, np.nan), values], window)


@given(length=lengths, window=sizes, seed=seeds)
def test_mean_highest_and_lowest_are_those_of_each_window(length: int, window: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(length)
    expected = _each_window(values, window)
    np.testing.assert_allclose(windows.mean(values, window), expected.mean(axis=-1), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(windows.highest(values, window), expected.max(axis=-1))
    np.testing.assert_array_equal(windows.lowest(values, window), expected.min(axis=-1))


@given(length=lengths, window=st.integers(2, 70), seed=seeds)
def test_deviation_and_correlation_are_those_of_each_window(length: int, window: int, seed: int) -> None:
    x, y = np.random.default_rng(seed).standard_normal((2, length))
    expected = _each_window(x, window).std(axis=-1, ddof=1)
    np.testing.assert_allclose(windows.standard_deviation(x, window), expected, rtol=1e-10)
    found = windows.correlation(x, y, window)
    assert np.isnan(found[: window - 1]).all()
    for end in range(window - 1, length):
        rows = slice(end - window + 1, end + 1)
        assert found[end] == pytest.approx(np.corrcoef(x[rows], y[rows])[0, 1], abs=1e-9)


@pytest.mark.parametrize("level", [0.0, 1e-9, 1e9, 1e12])
def test_the_deviation_is_exact_at_any_level_and_after_any_shock(level: float) -> None:
    values = level + np.arange(64.0) % 7
    values[20] = 1e15
    found = windows.standard_deviation(values, 20)
    exact = [statistics.stdev(map(float, values[end - 19 : end + 1])) for end in range(40, 64)]
    np.testing.assert_allclose(found[40:], exact, rtol=1e-12)


def test_a_constant_has_no_deviation_and_no_correlation() -> None:
    constant, other = np.full(50, 0.1), np.arange(50.0)
    assert (windows.standard_deviation(constant, 20)[19:] == 0).all()
    assert np.isnan(windows.correlation(constant, other, 20)).all()
    assert np.isnan(windows.correlation(other, constant, 20)).all()


def test_a_line_correlates_perfectly_and_never_more() -> None:
    x = np.arange(100.0)
    np.testing.assert_allclose(windows.correlation(x, 3 * x + 0.1, 20)[19:], 1, rtol=1e-12)
    assert windows.correlation(x, 3 * x + 0.1, 20)[19:].max() <= 1
    assert windows.correlation(x, -x / 3, 20)[19:].min() >= -1


def test_an_unknown_value_spoils_its_windows_and_no_others() -> None:
    values = np.arange(60.0)
    values[30] = np.nan
    for found in (
        windows.mean(values, 5),
        windows.highest(values, 5),
        windows.lowest(values, 5),
        windows.standard_deviation(values, 5),
        windows.correlation(values, np.arange(60.0) ** 2, 5),
        windows.correlation(np.arange(60.0) ** 2, values, 5),
    ):
        assert np.flatnonzero(np.isnan(found)).tolist() == [0, 1, 2, 3, 30, 31, 32, 33, 34]


@pytest.mark.parametrize(("count", "expected"), [(0, [1, 2, 3]), (2, [None, None, 1]), (5, [None] * 3)])
def test_lag_moves_values_to_later_places(count: int, expected: list[float | None]) -> None:
    np.testing.assert_array_equal(windows.lag(np.array([1.0, 2, 3]), count), np.array(expected, float))
