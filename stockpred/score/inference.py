"""Means of values that depend on each other, and what may be claimed about them.

Bars of one date move together and near dates are alike, so dates are the unit: errors come from the long-run
variance of the dates' contributions, by the equal-weighted cosine estimator of Lazarus, Lewis, Stock and
Watson (2018), whose t statistic has a t distribution of B = 0.4 n^(2/3) degrees of freedom. That keeps what
an interval promises also where dates are few. Fewer than ``MIN_DATES`` claim nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stockpred.score.metrics import Floats, Integers

MIN_DATES = 20
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over groups of dependent values, with its 95 % interval and two-sided p value."""

    mean: float
    standard_error: float
    low: float
    high: float
    p_value: float
    num_groups: int


@dataclass(frozen=True)
class Proportion:
    """A share with its 95 % interval, which takes groups of dependent trials whole.

    Without an interval where there are fewer than ``MIN_DATES`` groups.
    """

    share: float
    low: float | None
    high: float | None
    num_trials: int


def mean_by_group(values: Floats, groups: Integers) -> Estimate | None:
    """Estimate the mean of values that depend on each other within a group and between near groups.

    Groups are dates. The mean is a ratio of sums over groups; its error is that of the linearised
    contributions to that ratio, so that groups of uneven size have the weight of their values. None for
    fewer than ``MIN_DATES`` groups.
    """
    found = _ratio_of_sums(values, np.ones(len(values)), groups)
    return None if found is None else _estimate(*found)


def skill_interval(loss: Floats, reference_loss: Floats, groups: Integers) -> Estimate | None:
    """Estimate the skill 1 - mean(loss) / mean(reference), with the 95 % interval of that ratio.

    With l_g and r_g the sums of both losses over group g of G, and R = sum(l_g) / sum(r_g), the delta method
    makes R's error that of the mean of (l_g - R r_g) / mean(r_g). None where the reference loses nothing,
    and for fewer than ``MIN_DATES`` groups.
    """
    found = _ratio_of_sums(loss, reference_loss, groups) if reference_loss.any() else None
    return None if found is None else _estimate(1.0 - found[0], *found[1:])


def diebold_mariano(loss: Floats, reference_loss: Floats, groups: Integers) -> Estimate | None:
    """Estimate mean(loss - reference) (Diebold and Mariano 1995); negative is better.

    None for fewer than ``MIN_DATES`` groups.
    """
    return mean_by_group(loss - reference_loss, groups)


def direction_accuracy(call: Floats, outcome: Floats, groups: Integers) -> Proportion | None:
    """Return the share of right signs where neither call nor outcome is zero; None for no such bar.

    ``groups`` are dates: assets rise and fall together, so a day's bars are far from independent trials.
    """
    decided = (call != 0.0) & (outcome != 0.0)
    if not decided.any():
        return None
    is_hit = (np.sign(call[decided]) == np.sign(outcome[decided])).astype(np.float64)
    found = mean_by_group(is_hit, groups[decided])
    if found is None:
        return Proportion(float(is_hit.mean()), None, None, len(is_hit))
    return Proportion(found.mean, max(0.0, found.low), min(1.0, found.high), len(is_hit))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return the p values after the correction of Holm (1979) for multiple tests, in the given order.

    The smallest of n is multiplied by n, the next by n - 1, and so on; none falls below the one before it.
    The chance that any true null stays below 5 % is then at most 5 %, however the tests depend on each other.
    """
    from statsmodels.stats.multitest import multipletests

    return tuple(multipletests(p_values, method="holm")[1].tolist()) if p_values else ()


def standard_error(contributions: Floats) -> tuple[float, int]:
    """Return the standard error of a mean of serially dependent values, and its degrees of freedom.

    The mean of the squares of the first B cosine transforms estimates the long-run variance (Lazarus, Lewis,
    Stock and Watson 2018, equation 7).
    """
    from scipy.fft import dct  # only a test needs it, so a start does not pay

    degrees = max(round(0.4 * math.pow(len(contributions), 2.0 / 3.0)), 1)
    cosines = dct(contributions, norm="ortho")[1 : degrees + 1]
    return math.sqrt(float(np.square(cosines).mean()) / len(contributions)), degrees


def _ratio_of_sums(over: Floats, under: Floats, groups: Integers) -> tuple[float, float, int, int] | None:
    """Return sum(over) / sum(under), its error by the delta method, degrees of freedom, number of groups."""
    dates, index = np.unique(groups, return_inverse=True)
    if len(dates) < MIN_DATES:
        return None
    over_G = np.bincount(index, weights=over, minlength=len(dates))
    under_G = np.bincount(index, weights=under, minlength=len(dates))
    ratio = float(over_G.sum() / under_G.sum())
    error, degrees = standard_error((over_G - ratio * under_G) / under_G.mean())
    return ratio, error, degrees, len(dates)


def _estimate(mean: float, error: float, degrees: int, num_groups: int) -> Estimate:
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(degrees, 0.5 + _CONFIDENCE / 2)) * error
    if error == 0.0:
        p_value = 1.0 if mean == 0.0 else 0.0
    else:
        p_value = 2.0 * float(stdtr(degrees, -abs(mean / error)))
    return Estimate(mean, error, mean - half, mean + half, p_value, num_groups)
