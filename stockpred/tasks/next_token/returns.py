"""What a forecast of the next token says about the return: scores, quantiles, and a density.

A token stands for a close return in units of the volatility known before its bar. So a forecast over tokens
is one over simple returns exp(z_k volatility) - 1, whose CRPS, probabilities and quantiles are those of these
points. Its density spreads each token over the returns of the training bars that it stands for.

Shape suffixes: M bars, K tokens, Q quantile levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from stockpred.data.arrays import Floats, Ints
from stockpred.score import metrics
from stockpred.score.compare import BarScores
from stockpred.score.forecasts import QUANTILE_LEVELS
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.targets import next_tokens, training_bars

OWN_BARS = 4.0  # a token of so many training bars has half its own deviation, half the pooled one
MIN_DEVIATION = 0.01  # in volatilities
DEGREES = 5.0
"""Of the Student-t kernels. Normal ones would let one bar beyond all tokens decide a mean of thousands."""
_ELEMENTS_AT_ONCE = 1 << 17  # 1 MB: what stays in the cache is reduced five times as fast


@dataclass(frozen=True, eq=False)
class TokenForecasts:
    """Forecasts of M bars, reduced to a few numbers each; returns are simple."""

    positions: Ints
    nats: Floats
    crps: Floats
    log_loss: Floats
    pit: Floats
    expected_return: Floats
    quantiles_MQ: Floats

    @classmethod
    def joined(cls, parts: list[TokenForecasts]) -> TokenForecasts:
        arrays = ([getattr(part, field.name) for part in parts] for field in fields(cls))
        return cls(*(np.concatenate(one) for one in arrays))

    def at(self, rows: Any) -> TokenForecasts:
        return TokenForecasts(*(getattr(self, field.name)[rows] for field in fields(self)))

    def named(self, name: str, label: str) -> BarScores:
        return BarScores(
            name,
            label,
            nats=self.nats,
            crps=self.crps,
            log_loss=self.log_loss,
            pit=self.pit,
            expected_return=self.expected_return,
        )


@dataclass(frozen=True, eq=False)
class TokenReturns:
    """What each token stands for, in order of its return: all arrays [K] in volatilities but ``order``."""

    dataset: TokenDataset
    order: Ints
    """The tokens from the largest fall to the largest rise."""
    support: Floats
    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, dataset: TokenDataset) -> TokenReturns:
        """Take the points from the tokenizer, and the kernels from training bars."""
        support_K = dataset.tokenizer.close_return_z.astype(np.float64)
        order = np.argsort(support_K, kind="stable")
        mean_K, deviation_K = _kernels(dataset, support_K)
        return cls(dataset, order, support_K[order], mean_K[order], deviation_K[order])

    def reduce(self, positions_M: Ints, log_probs: Callable[[slice], Floats]) -> Iterator[TokenForecasts]:
        """Yield the forecasts of a few bars at a time; ``log_probs`` [m, K] are asked for a few rows."""
        size = max(_ELEMENTS_AT_ONCE // len(self.order), 1)
        for start in range(0, len(positions_M), size):
            few = slice(start, start + size)
            yield self.forecasts(positions_M[few], log_probs(few))

    def forecasts(self, positions_M: Ints, log_probs_MK: Floats) -> TokenForecasts:
        """Reduce distributions over tokens to numbers about the token and the return of each bar."""
        volatility_M = self.dataset.volatility[positions_M].astype(np.float64)
        z_M = self.dataset.close_return[positions_M] / volatility_M
        probs_MK = np.exp(log_probs_MK[:, self.order])
        cumulative_MK = np.cumsum(probs_MK, axis=1)
        atoms_MK = np.expm1(volatility_M[:, None] * self.support)
        outcome_M = np.expm1(self.dataset.close_return[positions_M])
        quantiles_MQ = metrics.quantiles_discrete(cumulative_MK, self.support, QUANTILE_LEVELS)
        return TokenForecasts(
            positions_M,
            nats=-log_probs_MK[np.arange(len(positions_M)), next_tokens(self.dataset, positions_M)],
            crps=metrics.crps_discrete(probs_MK, cumulative_MK, atoms_MK, outcome_M),
            log_loss=-self.log_density(probs_MK, z_M, volatility_M),
            pit=metrics.pit_discrete(probs_MK, self.support, z_M),
            expected_return=np.einsum("mk,mk->m", probs_MK, atoms_MK),
            quantiles_MQ=np.expm1(volatility_M[:, None] * quantiles_MQ),
        )

    def log_density(self, probs_MK: Floats, z_M: Floats, volatility_M: Floats) -> Floats:
        """Return the log density of the simple return r = exp(z volatility) - 1, in nats.

        The density of z is the mixture of the tokens' kernels, in ``order``; that of r is it times
        dz/dr = 1 / (volatility (1 + r)).
        """
        scale_K = self.deviation * math.sqrt((DEGREES - 2.0) / DEGREES)
        distance_MK = (z_M[:, None] - self.mean) / scale_K
        kernel_MK = (1.0 + distance_MK * distance_MK / DEGREES) ** (-0.5 * (DEGREES + 1.0)) / scale_K
        density_M = _T_NORM * np.einsum("mk,mk->m", probs_MK, kernel_MK)
        return np.asarray(np.log(density_M) - np.log(volatility_M) - z_M * volatility_M)


_T_NORM = math.gamma(0.5 * (DEGREES + 1.0)) / (math.sqrt(DEGREES * math.pi) * math.gamma(0.5 * DEGREES))
"""The height of the kernels at their centres, for a scale of 1."""


def _kernels(dataset: TokenDataset, support_K: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of the returns of each token's training bars, in volatilities.

    Deviations are shrunk towards the pooled one as if ``OWN_BARS`` more bars had that; a token without
    training bars has its own point as the mean.
    """
    bars = training_bars(dataset)
    token_M = next_tokens(dataset, bars)
    z_M = dataset.close_return[bars] / dataset.volatility[bars].astype(np.float64)
    count_K = np.bincount(token_M, minlength=len(support_K)).astype(np.float64)
    sum_K = np.bincount(token_M, weights=z_M, minlength=len(support_K))
    mean_K = np.where(count_K > 0.0, sum_K / np.maximum(count_K, 1.0), support_K)
    square_K = np.bincount(token_M, weights=(z_M - mean_K[token_M]) ** 2, minlength=len(support_K))
    pooled = square_K.sum() / max(float(np.maximum(count_K - 1.0, 0.0).sum()), 1.0)
    variance_K = (square_K + OWN_BARS * pooled) / (count_K + OWN_BARS)
    return mean_K, np.maximum(np.sqrt(variance_K), MIN_DEVIATION)
