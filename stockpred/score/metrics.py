"""Proper scores of forecasts, bar by bar, and what they come to.

Axes: M bars, K atoms of a discrete forecast, Q quantile levels. Everything is float64 numpy.
A forecast of a token is a discrete distribution over the K close returns that the tokens stand for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class EvaluatedModel:
    """The model that was tested: its name, its size, and the step that validation chose."""

    model: str
    num_parameters: int
    best_step: int


def bits(nats: float) -> float:
    return nats / math.log(2.0)


# Discrete forecasts: probabilities_MK over support_K, which must rise strictly or stay level.


def quantiles_discrete(cumulative_MK: Floats, support_K: Floats, levels: Sequence[float]) -> Floats:
    """Return the smallest atom whose cumulative probability reaches each level, [M, Q]."""
    last = len(support_K) - 1
    columns = [np.minimum(np.count_nonzero(cumulative_MK < level, axis=1), last) for level in levels]
    return np.asarray(support_K[np.stack(columns, axis=1)])


def crps_discrete(
    probabilities_MK: Floats, cumulative_MK: Floats, support: Floats, outcome_M: Floats
) -> Floats:
    """Return E|X - y| - E|X - X'| / 2 exactly (Gneiting and Raftery 2007, eq. 21), [M].

    ``support`` is [K], or [M, K] where every bar has atoms of its own.
    """
    support_MK = np.broadcast_to(support, probabilities_MK.shape)
    distance_MK = np.abs(support_MK - outcome_M[:, None])
    distance_M = np.einsum("mk,mk->m", probabilities_MK, distance_MK)
    below_MK = cumulative_MK[:, :-1]
    spread_M = np.einsum("mk,mk->m", below_MK * (1.0 - below_MK), np.diff(support_MK, axis=1))
    return np.asarray(distance_M - spread_M)


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


# Calibration and level.


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
