"""Tokens reweighted by what the last bars looked like: a conditional log-linear model of some 200 weights.

p(k | x) is proportional to exp(log prior_k + x' W phi_k): a conditional logit (McFadden 1974), or conditional
maximum-entropy model (Berger, Della Pietra and Della Pietra 1996). phi_k are a few functions of token k's
centroid; x are moving averages of the last bars' candles. Unlike a table of pairs it has few weights to
learn, and it knows that volatility and volume persist: a hard rival.

Shape suffixes: N bars, M targets, K tokens, P functions of a token, X numbers known before a bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from stockpred.data.arrays import Floats, Ints
from stockpred.data.splits import Split
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.features import (
    CLOSE_RETURN,
    LOWER_WICK,
    OPEN_GAP,
    UPPER_WICK,
    VOLUME,
)
from stockpred.tasks.next_token.rivals import unigram
from stockpred.tasks.next_token.targets import next_tokens, target_positions

LABEL = "Log-linear in the last bars"
SPANS = (2, 8, 32)
PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
MAX_FIT_CELLS = 1 << 27  # targets times tokens: evenly spaced targets are enough for so few weights
_BLOCK_CELLS = 1 << 20
_MAX_STEPS = 100

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LogLinear:
    """A fitted model with its inputs at every bar of the dataset; ``penalty`` was chosen on validation."""

    weights_XP: Floats
    traits_KP: Floats
    log_prior_K: Floats
    known_NX: Singles
    penalty: float
    num_fitted: int

    @property
    def settings(self) -> Mapping[str, float]:
        return {"penalty": self.penalty, "training_targets": float(self.num_fitted)}

    def log_probs(self, positions_M: Ints) -> Floats:
        scores_MK = (self.known_NX[positions_M] @ self.weights_XP) @ self.traits_KP.T + self.log_prior_K
        scores_MK -= scores_MK.max(axis=1, keepdims=True)
        return np.asarray(scores_MK - np.log(np.exp(scores_MK).sum(axis=1, keepdims=True)))


@dataclass(frozen=True, eq=False)
class Sample:
    """M targets to fit on: what was known before each, and the token that came."""

    known_MX: Singles
    token_M: Ints


def fit(dataset: TokenDataset) -> LogLinear:
    """Fit on at most ``MAX_FIT_CELLS`` / K training targets; choose the penalty on as many of validation."""
    log_prior_K = unigram.fit(dataset).log_probs_K
    traits_KP = traits(dataset.tokenizer.centroids.astype(np.float64), np.exp(log_prior_K))
    known_NX = known_before(dataset)
    train, validation = (_sample(dataset, known_NX, split) for split in (Split.TRAIN, Split.VALIDATION))
    weights_XP, penalty = _chosen(train, validation, traits_KP, log_prior_K)
    return LogLinear(weights_XP, traits_KP, log_prior_K, known_NX, penalty, len(train.token_M))


def traits(centroids_KF: Floats, prior_K: Floats) -> Floats:
    """Return functions of each token's centroid, [K, P]: its features, their squares, three absolute values.

    They are uncorrelated and of variance 1 under the prior, so that half the penalty times the square of the
    weights is about the penalty times the divergence of the forecast from the prior, and few steps fit them.
    """
    sizes_KS = np.abs(centroids_KF[:, [CLOSE_RETURN, OPEN_GAP, VOLUME]])  # wicks are never negative
    return _whitened(np.concatenate([centroids_KF, centroids_KF**2, sizes_KS], axis=1), prior_K)


def known_before(dataset: TokenDataset) -> Singles:
    """Return what is known before each bar, [N, X]: 1, and standardised moving averages of its segment.

    They average, over each of ``SPANS``, the size of the return, both wicks, the volume and the return of the
    candles that tokens stand for. The first bar of a segment, which is no target, has zeros.
    """
    candles_NF = dataset.tokenizer.decode(dataset.tokens)
    size_N1 = np.abs(candles_NF[:, [CLOSE_RETURN]])
    seen = pd.DataFrame(np.c_[size_N1, candles_NF[:, [UPPER_WICK, LOWER_WICK, VOLUME, CLOSE_RETURN]]])
    segment_N = np.repeat(np.arange(len(dataset.segment_start)), dataset.segment_length)
    means = [seen.groupby(segment_N).ewm(span=span).mean().to_numpy(np.float64) for span in SPANS]
    lagged_NX = np.zeros((len(segment_N), len(SPANS) * seen.shape[1]))
    lagged_NX[1:] = np.concatenate(means, axis=1)[:-1]
    training = target_positions(dataset, Split.TRAIN)
    mean_X, spread_X = lagged_NX[training].mean(axis=0), lagged_NX[training].std(axis=0)
    lagged_NX = (lagged_NX - mean_X) / np.where(spread_X > 0.0, spread_X, 1.0)
    lagged_NX[dataset.segment_start] = 0.0
    return np.asarray(np.c_[np.ones(len(lagged_NX)), lagged_NX], np.float32)


def loss(
    weights_XP: Floats, sample: Sample, traits_KP: Singles, log_prior_K: Singles, penalty: float
) -> tuple[float, Floats]:
    """Return mean nats plus half the penalty times the weights' square, and its gradient [X, P]."""
    total, gradient_XP = 0.0, np.zeros_like(weights_XP)
    weights = weights_XP.astype(np.float32)
    for rows in _blocks(len(sample.token_M), len(log_prior_K)):
        known_MX, token_M = sample.known_MX[rows], sample.token_M[rows]
        scores_MK = (known_MX @ weights) @ traits_KP.T + log_prior_K
        scores_MK -= scores_MK.max(axis=1, keepdims=True)
        own_M = scores_MK[np.arange(len(token_M)), token_M].astype(np.float64)
        np.exp(scores_MK, out=scores_MK)
        mass_M = scores_MK.sum(axis=1)
        total += float((np.log(mass_M.astype(np.float64)) - own_M).sum())
        expected_MP = (scores_MK @ traits_KP) / mass_M[:, None]
        gradient_XP += known_MX.T @ (expected_MP - traits_KP[token_M])
    num = len(sample.token_M)
    value = total / num + 0.5 * penalty * float(np.square(weights_XP).sum())
    return value, gradient_XP / num + penalty * weights_XP


def _chosen(
    train: Sample, validation: Sample, traits_KP: Floats, log_prior_K: Floats
) -> tuple[Floats, float]:
    """Follow falling penalties, each from the last one's weights, until validation nats rise."""
    single = traits_KP.astype(np.float32), log_prior_K.astype(np.float32)
    weights_XP = np.zeros((train.known_MX.shape[1], traits_KP.shape[1]))
    found: list[tuple[float, Floats, float]] = []
    for penalty in PENALTIES:
        weights_XP = _fitted(weights_XP, train, *single, penalty)
        found.append((loss(weights_XP, validation, *single, 0.0)[0], weights_XP, penalty))
        if any(after[0] > before[0] for before, after in pairwise(found)):
            break
    _, weights_XP, penalty = min(found, key=lambda one: one[0])
    return weights_XP, penalty


def _fitted(
    start_XP: Floats, sample: Sample, traits_KP: Singles, log_prior_K: Singles, penalty: float
) -> Floats:
    from scipy.optimize import minimize  # only scoring needs it, so a start of training does not pay

    def flat(weights: Floats) -> tuple[float, Floats]:
        value, gradient_XP = loss(weights.reshape(start_XP.shape), sample, traits_KP, log_prior_K, penalty)
        return value, gradient_XP.ravel()

    found = minimize(
        flat,
        start_XP.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_STEPS, "ftol": 1e-6, "gtol": 1e-4},
    )
    return np.asarray(found.x, np.float64).reshape(start_XP.shape)


def _sample(dataset: TokenDataset, known_NX: Singles, split: Split) -> Sample:
    targets = target_positions(dataset, split)
    most = max(MAX_FIT_CELLS // dataset.tokenizer.vocab_size, 1)
    if len(targets) > most:
        targets = targets[np.linspace(0, len(targets) - 1, most).astype(np.int64)]
    return Sample(known_NX[targets], next_tokens(dataset, targets))


def _whitened(values_KP: Floats, weight_K: Floats) -> Floats:
    """Return the columns as uncorrelated ones of mean 0 and variance 1; one without variance stays 0."""
    centred_KP = values_KP - weight_K @ values_KP
    spread_P = np.sqrt(weight_K @ centred_KP**2)
    scaled_KP = centred_KP / np.where(spread_P > 1e-9, spread_P, np.inf)
    variance_P, axes_PP = np.linalg.eigh(scaled_KP.T @ (weight_K[:, None] * scaled_KP))
    is_real = variance_P > 1e-6 * variance_P.max()
    return np.asarray((scaled_KP @ axes_PP[:, is_real]) / np.sqrt(variance_P[is_real]))


def _blocks(num_targets: int, vocab_size: int) -> Iterator[slice]:
    size = max(_BLOCK_CELLS // vocab_size, 1)
    for start in range(0, num_targets, size):
        yield slice(start, start + size)
