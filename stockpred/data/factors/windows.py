"""Statistics of the last ``window`` values, for every value of an array at once.

A window is put together from windows half as long, so one of 20 costs five joins of whole arrays. Unlike a
running sum, nothing is carried from one window to the next: each result is made from the values of its own
window and no others, in an order that depends on ``window`` alone. It is therefore the same bit for bit
whatever lies before or after, one unknown value spoils only the windows that hold it, and a large value
leaves no rounding error behind. Every function returns as many values as it is given; those whose window is
not complete, or holds a NaN, are NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stockpred.data.arrays import Floats

State = tuple[Floats, ...]
"""What is known of runs of consecutive values: one array per statistic, one element per run."""
Join = Callable[[State, int, State, int], State]
"""Joins the state of runs with that of the runs right after them; the numbers are their lengths."""


def lag(values: Floats, count: int) -> Floats:
    """Return the value ``count`` places before each."""
    return _padded(values[: max(len(values) - count, 0)], len(values))


def mean(values: Floats, window: int) -> Floats:
    (total,) = _joined((values,), window, lambda a, _m, b, _n: (a[0] + b[0],))
    return _padded(total / window, len(values))


def highest(values: Floats, window: int) -> Floats:
    (top,) = _joined((values,), window, lambda a, _m, b, _n: (np.maximum(a[0], b[0]),))
    return _padded(top, len(values))


def lowest(values: Floats, window: int) -> Floats:
    (bottom,) = _joined((values,), window, lambda a, _m, b, _n: (np.minimum(a[0], b[0]),))
    return _padded(bottom, len(values))


def standard_deviation(values: Floats, window: int) -> Floats:
    """Return the standard deviation with ``window - 1`` in the denominator; exactly 0 for equal values."""
    _, squares = _joined((values, np.zeros_like(values)), window, _join_squares)
    return _padded(np.sqrt(squares / (window - 1)), len(values))


def correlation(x: Floats, y: Floats, window: int) -> Floats:
    """Return Pearson's correlation; NaN where either is constant over the window."""
    zero = np.zeros_like(x)
    _, _, xx, yy, xy = _joined((x, y, zero, zero, zero), window, _join_products)
    constant = (xx == 0) | (yy == 0)
    scale = np.sqrt(np.where(constant, np.nan, xx)) * np.sqrt(yy)
    return _padded(np.clip(xy / scale, -1.0, 1.0), len(x))


def _joined(values: State, window: int, join: Join) -> State:
    """Return the state of each run of ``window`` values, from that of single values.

    Runs of 1, 2, 4, ... values are made by doubling; those in the binary form of ``window`` are joined.
    """
    length = len(values[0])
    if length < window:
        return tuple(np.empty(0) for _ in values)
    run, size = values, 1
    while not window & size:
        run, size = _joined_with_next(run, size, run, size, join), 2 * size
    done, count = run, size
    while count < window:
        run, size = _joined_with_next(run, size, run, size, join), 2 * size
        if window & size:
            done, count = _joined_with_next(done, count, run, size, join), count + size
    return done


def _joined_with_next(first: State, m: int, second: State, n: int, join: Join) -> State:
    """Join each run of ``m`` values with the run of ``n`` that begins after its last."""
    num_runs = len(second[0]) - m
    return join(tuple(one[:num_runs] for one in first), m, tuple(one[m:] for one in second), n)


def _join_squares(a: State, m: int, b: State, n: int) -> State:
    """Join (mean, sum of squared deviations from it).

    Chan, Golub, LeVeque, "Algorithms for Computing the Sample Variance", Am. Stat. 37 (1983), eq. 2.1.
    """
    (mean_a, squares_a), (mean_b, squares_b) = a, b
    step = mean_b - mean_a
    return mean_a + step * (n / (m + n)), squares_a + squares_b + step * step * (m * n / (m + n))


def _join_products(a: State, m: int, b: State, n: int) -> State:
    """Join (mean of x, mean of y, sums of the products of deviations xx, yy, xy), likewise."""
    step_x, step_y = b[0] - a[0], b[1] - a[1]
    share, weight = n / (m + n), m * n / (m + n)
    return (
        a[0] + step_x * share,
        a[1] + step_y * share,
        a[2] + b[2] + step_x * step_x * weight,
        a[3] + b[3] + step_y * step_y * weight,
        a[4] + b[4] + step_x * step_y * weight,
    )


def _padded(values: Floats, length: int) -> Floats:
    """Return ``values`` at the end of an array of ``length``, after NaN."""
    padded = np.empty(length)
    begin = length - len(values)
    padded[:begin] = np.nan
    padded[begin:] = values
    return padded
