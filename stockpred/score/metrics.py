"""Proper scores of forecasts, and intervals around their means that allow for dependence.

Axes: M bars, K atoms of a discrete forecast, Q quantile levels. Everything is float64 numpy.
A forecast of a token is a discrete distribution over the K close returns that the tokens stand for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_Z_95 = 1.959963984540054  # scipy.special.ndtri(0.975), without the import


@dataclass(frozen=True)
class EvaluatedModel:
    """The model that was tested: its name, its size, and the step that validation chose."""

    model: str
    num_parameters: int
    best_step: int


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
class Correlation:
    """Mean cross-sectional correlation per date; ``ratio`` is mean over standard deviation (ICIR)."""

    mean: float
    ratio: float
    t: float
    num_dates: int


@dataclass(frozen=True)
class Proportion:
    """A share with its 95 % interval, which takes groups of dependent trials whole; None for one group."""

    share: float
    low: float | None
    high: float | None
    num_trials: int


def bits(nats: float) -> float:
    return nats / math.log(2.0)


# Discrete forecasts: probabilities_MK over support_K, which must rise strictly or stay level.


def mean_discrete(probabilities_MK: Floats, support_K: Floats) -> Floats:
    return np.asarray(probabilities_MK @ support_K)


def quantiles_discrete(cumulative_MK: Floats, support_K: Floats, levels: Sequence[float]) -> Floats:
    """Return the smallest atom whose cumulative probability reaches each level, [M, Q]."""
    last = len(support_K) - 1
    columns = [np.minimum(np.count_nonzero(cumulative_MK < level, axis=1), last) for level in levels]
    return np.asarray(support_K[np.stack(columns, axis=1)])


def crps_discrete(
    probabilities_MK: Floats, cumulative_MK: Floats, support_K: Floats, outcome_M: Floats
) -> Floats:
    """Return E|X - y| - E|X - X'| / 2 exactly (Gneiting and Raftery 2007, eq. 21), [M]."""
    distance_MK = np.abs(support_K[None, :] - outcome_M[:, None])
    distance_M = np.einsum("mk,mk->m", probabilities_MK, distance_MK)
    below_MK = cumulative_MK[:, :-1]
    return np.asarray(distance_M - (below_MK * (1.0 - below_MK)) @ np.diff(support_K))


def pit_discrete(probabilities_MK: Floats, support_K: Floats, outcome_M: Floats) -> Floats:
    """Return the probability below the outcome, counting half of an atom that it hits, [M]."""
    below_MK = support_K[None, :] < outcome_M[:, None]
    hit_MK = support_K[None, :] == outcome_M[:, None]
    return np.asarray(np.einsum("mk,mk->m", probabilities_MK, below_MK + 0.5 * hit_MK))


def crps_fixed(weights_K: Floats, support_K: Floats, outcome_M: Floats) -> Floats:
    """Return the CRPS of one and the same discrete forecast against many outcomes, [M]; no [M, K] array."""
    mass_K = np.concatenate(([0.0], np.cumsum(weights_K)))
    moment_K = np.concatenate(([0.0], np.cumsum(weights_K * support_K)))
    below_M = np.searchsorted(support_K, outcome_M, side="right")
    distance_M = outcome_M * (2.0 * mass_K[below_M] - mass_K[-1]) + moment_K[-1] - 2.0 * moment_K[below_M]
    inner_K = mass_K[1:-1]
    return np.asarray(distance_M - (inner_K * (1.0 - inner_K)) @ np.diff(support_K))


def pit_fixed(weights_K: Floats, support_K: Floats, outcome_M: Floats) -> Floats:
    mass_K = np.concatenate(([0.0], np.cumsum(weights_K)))
    below_M = mass_K[np.searchsorted(support_K, outcome_M, side="left")]
    reached_M = mass_K[np.searchsorted(support_K, outcome_M, side="right")]
    return 0.5 * (below_M + reached_M)


# Normal forecasts.


def normal_cdf(z: Floats) -> Floats:
    from scipy.special import ndtr  # here and below: only a test needs them, so a start does not pay

    return np.asarray(ndtr(z))


def crps_normal(mean: Floats, deviation: Floats, outcome: Floats) -> Floats:
    """Return the closed form of Gneiting and Raftery (2007, eq. 5), in the units of the outcome."""
    z = (outcome - mean) / deviation
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    score = deviation * (z * (2.0 * normal_cdf(z) - 1.0) + 2.0 * density - 1.0 / math.sqrt(math.pi))
    return np.asarray(score)


# Calibration, level and direction.


def coverage(pit_M: Floats, level: float) -> float:
    """Return the share of outcomes inside the central interval of this probability."""
    return float(np.mean(np.abs(pit_M - 0.5) <= 0.5 * level))


def skill(loss: Floats, reference_loss: Floats) -> float | None:
    """Return 1 - mean(loss) / mean(reference): 0 is no better, 1 perfect; None for a reference of no loss."""
    reference = float(np.mean(reference_loss))
    return 1.0 - float(np.mean(loss)) / reference if reference > 0.0 else None


def r_squared(prediction: Floats, outcome: Floats) -> float | None:
    """Return R2 against the mean outcome of the scored bars themselves."""
    return skill((prediction - outcome) ** 2, (outcome - outcome.mean()) ** 2)


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


# Means of dependent values.


def automatic_lags(num_values: int) -> int:
    """Return the bandwidth floor(4 (n / 100)^(2/9)) of Newey and West (1994)."""
    return min(math.floor(4.0 * math.pow(num_values / 100.0, 2.0 / 9.0)), max(num_values - 1, 0))


def long_run_variance(values: Floats, num_lags: int) -> float:
    """Return the Bartlett-weighted variance of Newey and West (1987) of a series around its mean."""
    from statsmodels.stats.sandwich_covariance import S_hac_simple

    centred = values - values.mean()
    return float(S_hac_simple(centred, nlags=num_lags)[0, 0]) / len(values)


def mean_by_group(values: Floats, groups: Integers) -> Estimate | None:
    """Estimate the mean of values that depend on each other within a group and between near groups.

    Groups are dates. The mean is a ratio of sums over groups; its error is the Newey-West error of the
    linearised contributions to that ratio, so that groups of uneven size have the weight of their values.
    None for fewer than two groups, from which no error can be estimated.
    """
    if _are_one_group(groups):
        return None
    return _estimate(*_ratio_of_sums(values, np.ones(len(values)), groups))


def skill_interval(loss: Floats, reference_loss: Floats, groups: Integers) -> Estimate | None:
    """Estimate the skill 1 - mean(loss) / mean(reference), with the 95 % interval of that ratio.

    With l_g and r_g the sums of both losses over group g of G, and R = sum(l_g) / sum(r_g), the delta method
    makes R's error that of the mean of (l_g - R r_g) / mean(r_g), here by Newey and West; the interval is
    1 - R -+ 1.96 errors and the p value that of no skill. None where the reference loses nothing, and for
    fewer than two groups, from which no error can be estimated.
    """
    if not reference_loss.any() or _are_one_group(groups):
        return None
    ratio, error, num_groups = _ratio_of_sums(loss, reference_loss, groups)
    return _estimate(1.0 - ratio, error, num_groups)


def _are_one_group(groups: Integers) -> bool:
    return bool((groups == groups[0]).all())


def _ratio_of_sums(over: Floats, under: Floats, groups: Integers) -> tuple[float, float, int]:
    """Return sum(over) / sum(under), its Newey-West error by the delta method, and the number of groups."""
    dates, index = np.unique(groups, return_inverse=True)
    over_G = np.bincount(index, weights=over, minlength=len(dates))
    under_G = np.bincount(index, weights=under, minlength=len(dates))
    ratio = float(over_G.sum() / under_G.sum())
    contributions = (over_G - ratio * under_G) / under_G.mean()
    variance = long_run_variance(contributions, automatic_lags(len(dates))) / len(dates)
    return ratio, math.sqrt(max(variance, 0.0)), len(dates)


def _estimate(mean: float, error: float, num_groups: int) -> Estimate:
    low, high = mean - _Z_95 * error, mean + _Z_95 * error
    return Estimate(mean, error, low, high, _two_sided(mean, error), num_groups)


def diebold_mariano(loss: Floats, reference_loss: Floats, groups: Integers) -> Estimate | None:
    """Estimate mean(loss - reference) with HAC errors (Diebold and Mariano 1995); negative is better.

    None for fewer than two groups.
    """
    return mean_by_group(loss - reference_loss, groups)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return the p values after the correction of Holm (1979) for multiple tests, in the given order.

    The smallest of n is multiplied by n, the next by n - 1, and so on; none falls below the one before it.
    The chance that any true null stays below 5 % is then at most 5 %, however the tests depend on each other.
    """
    from statsmodels.stats.multitest import multipletests

    return tuple(multipletests(p_values, method="holm")[1].tolist()) if p_values else ()


def information_coefficient(
    prediction: Floats, outcome: Floats, time: Integers, *, ranked: bool, min_assets: int = 5
) -> Correlation | None:
    """Average the correlation across assets at each time; t by Newey-West; ties share their mean rank.

    Times with fewer than ``min_assets`` assets, or where one side is constant, have no correlation and are
    left out. None where fewer than two times are left, or all have the same correlation.
    """
    frame = pd.DataFrame({"time": time, "prediction": prediction, "outcome": outcome})
    grouped = frame.groupby("time", sort=True)
    if ranked:
        frame[["prediction", "outcome"]] = grouped[["prediction", "outcome"]].rank()
        grouped = frame.groupby("time", sort=True)
    daily = _correlations(frame, grouped["outcome"].transform("size").to_numpy() >= min_assets)
    spread = float(daily.std(ddof=1)) if len(daily) > 1 else 0.0
    if spread == 0.0:
        return None
    error = math.sqrt(long_run_variance(daily, automatic_lags(len(daily))) / len(daily))
    mean = float(daily.mean())
    return Correlation(mean, mean / spread, mean / error, len(daily))


def _correlations(frame: pd.DataFrame, is_wide: NDArray[np.bool_]) -> Floats:
    kept = frame[is_wide]
    centred = kept[["prediction", "outcome"]] - kept.groupby("time")[["prediction", "outcome"]].transform(
        "mean"
    )
    products = pd.DataFrame(
        {
            "time": kept["time"],
            "covariance": centred["prediction"] * centred["outcome"],
            "prediction": centred["prediction"] ** 2,
            "outcome": centred["outcome"] ** 2,
        }
    )
    sums = products.groupby("time", sort=True).sum()
    # A constant cross-section leaves rounding dust instead of zero.
    varies = (sums["prediction"] > 1e-24) & (sums["outcome"] > 1e-24)
    sums = sums[varies]
    daily: Floats = (sums["covariance"] / np.sqrt(sums["prediction"] * sums["outcome"])).to_numpy(np.float64)
    return daily


def _two_sided(mean: float, error: float) -> float:
    if error == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return math.erfc(abs(mean / error) / math.sqrt(2.0))
