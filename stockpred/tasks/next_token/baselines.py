"""Simple rivals, fitted on the training period alone and scored on the same bars as the model.

A target is a bar that has a predecessor in its own segment; targets are given by their positions n in the
dataset. Axes: M targets, K tokens, Q sample points of a training distribution. Returns are log returns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stockpred.data.splits import Split
from stockpred.score import metrics
from stockpred.score.metrics import Floats, Integers
from stockpred.tasks.next_token.dataset import TokenDataset

EWMA_DECAY = 0.94  # RiskMetrics (J.P. Morgan 1996) for daily returns
_ALPHAS = np.geomspace(1e-3, 1e3, 25)
_TAUS = np.geomspace(1e-1, 1e6, 57)
_NUM_SAMPLE_POINTS = 1001


@dataclass(frozen=True)
class BarScores:
    """One forecaster on every scored bar, [M] each; None where it makes no such statement.

    ``nll`` in nats per token, ``crps`` and ``expected_return`` in log return, ``pit`` in [0, 1]; the sign of
    ``call`` is the direction it bets on.
    """

    name: str
    label: str
    nll: Floats | None = None
    expected_return: Floats | None = None
    crps: Floats | None = None
    pit: Floats | None = None
    call: Floats | None = None


def training_bars(dataset: TokenDataset) -> Integers:
    """Return the positions of the bars that training may read."""
    return np.flatnonzero(dataset.split == Split.TRAIN)


def target_positions(dataset: TokenDataset, split: Split) -> Integers:
    """Return the positions that a split scores: its bars that have a predecessor which it may read."""
    has_predecessor = np.ones(len(dataset.tokens), dtype=np.bool_)
    has_predecessor[dataset.segment_start] = False
    if split is Split.TRAIN:
        has_predecessor[1:] &= dataset.split[:-1] == Split.TRAIN
    return np.flatnonzero((dataset.split == split) & has_predecessor)


@dataclass(frozen=True)
class Unigram:
    """Token frequencies with ``alpha`` added to every count; alpha by likelihood of the validation tokens."""

    log_probs_K: Floats
    alpha: float

    @classmethod
    def fit(cls, train_tokens: Integers, validation_tokens: Integers, vocab_size: int) -> Unigram:
        count_K = np.bincount(train_tokens, minlength=vocab_size).astype(np.float64)
        held_out_K = np.bincount(validation_tokens, minlength=vocab_size).astype(np.float64)
        candidates = [cls._smoothed(count_K, float(alpha)) for alpha in _ALPHAS]
        return max(candidates, key=lambda unigram: float(held_out_K @ unigram.log_probs_K))

    @classmethod
    def _smoothed(cls, count_K: Floats, alpha: float) -> Unigram:
        raised_K = count_K + alpha
        return cls(np.log(raised_K) - np.log(raised_K.sum()), alpha)

    @property
    def probs_K(self) -> Floats:
        return np.exp(self.log_probs_K)


@dataclass(frozen=True)
class Bigram:
    """p(k | j) = (count(j, k) + tau p(k)) / (count(j) + tau), with p the unigram (Dirichlet smoothing).

    ``codes`` holds the pairs seen in training as sorted j K + k, so that no [K, K] table is kept.
    """

    codes: Integers
    counts: Floats
    row_total_K: Floats
    unigram: Unigram
    tau: float

    @classmethod
    def fit(
        cls, train: tuple[Integers, Integers], validation: tuple[Integers, Integers], unigram: Unigram
    ) -> Bigram:
        """Count (previous, next) pairs of training; choose tau by the likelihood of the validation pairs."""
        vocab_size = len(unigram.log_probs_K)
        codes, counts = np.unique(train[0] * vocab_size + train[1], return_counts=True)
        row_total_K = np.bincount(train[0], minlength=vocab_size).astype(np.float64)
        candidates = [
            cls(codes, counts.astype(np.float64), row_total_K, unigram, float(tau)) for tau in _TAUS
        ]
        if len(validation[0]) == 0:
            return candidates[-1]
        return max(candidates, key=lambda bigram: float(bigram.log_probs(*validation).sum()))

    def log_probs(self, previous_M: Integers, next_M: Integers) -> Floats:
        wanted_M = previous_M * len(self.row_total_K) + next_M
        place_M = np.minimum(np.searchsorted(self.codes, wanted_M), len(self.codes) - 1)
        count_M = np.where(self.codes[place_M] == wanted_M, self.counts[place_M], 0.0)
        prior_M = self.tau * self.unigram.probs_K[next_M]
        return np.log(count_M + prior_M) - np.log(self.row_total_K[previous_M] + self.tau)

    def row(self, previous: int) -> Floats:
        """Return the distribution after one token, [K]."""
        vocab_size = len(self.row_total_K)
        first, last = np.searchsorted(self.codes, [previous * vocab_size, (previous + 1) * vocab_size])
        mass_K = self.tau * self.unigram.probs_K
        mass_K[self.codes[first:last] - previous * vocab_size] += self.counts[first:last]
        return np.asarray(mass_K / (self.row_total_K[previous] + self.tau))


def fit_unigram(dataset: TokenDataset) -> Unigram:
    tokens = dataset.tokens.astype(np.int64)
    return Unigram.fit(
        tokens[training_bars(dataset)],
        tokens[target_positions(dataset, Split.VALIDATION)],
        dataset.tokenizer.vocab_size,
    )


def fit_bigram(dataset: TokenDataset, unigram: Unigram) -> Bigram:
    return Bigram.fit(_pairs(dataset, Split.TRAIN), _pairs(dataset, Split.VALIDATION), unigram)


def _pairs(dataset: TokenDataset, split: Split) -> tuple[Integers, Integers]:
    targets = target_positions(dataset, split)
    tokens = dataset.tokens.astype(np.int64)
    return tokens[targets - 1], tokens[targets]


def ewma_volatility(dataset: TokenDataset, decay: float = EWMA_DECAY) -> Floats:
    """Return the volatility that is known before each bar: s2[n] = decay s2[n-1] + (1 - decay) r[n-1]^2, [N].

    Every segment starts afresh from the dataset's own lagged volatility of its first bar.
    """
    lagged_square = np.empty(len(dataset.tokens), dtype=np.float64)
    lagged_square[1:] = dataset.close_return[:-1] ** 2
    lagged_square[dataset.segment_start] = dataset.volatility[dataset.segment_start].astype(np.float64) ** 2
    segment = np.repeat(np.arange(len(dataset.segment_start)), dataset.segment_length)
    smoothed = pd.Series(lagged_square).groupby(segment).ewm(alpha=1.0 - decay, adjust=False).mean()
    return np.sqrt(smoothed.to_numpy(dtype=np.float64))


def score_rivals(
    dataset: TokenDataset, positions: Integers, unigram: Unigram, bigram: Bigram
) -> tuple[BarScores, ...]:
    """Score every rival on the bars at ``positions``, each of which has a predecessor in its segment."""
    return (
        score_bigram(dataset, positions, bigram),
        score_unigram(dataset, positions, unigram),
        score_normal(dataset, positions),
        score_unconditional(dataset, positions),
        score_last_value(dataset, positions),
        score_always_up(positions),
    )


def score_unigram(dataset: TokenDataset, positions: Integers, unigram: Unigram) -> BarScores:
    """Score the training frequencies of tokens, scaled like the model's by each bar's known volatility."""
    order, support_K = sorted_support(dataset)
    probs_K = unigram.probs_K[order]
    volatility_M, outcome_M = _volatility_and_outcome(dataset, positions)
    expected_M = volatility_M * float(probs_K @ support_K)
    return BarScores(
        name="unigram",
        label="Unigram",
        nll=-unigram.log_probs_K[dataset.tokens[positions].astype(np.int64)],
        expected_return=expected_M,
        crps=volatility_M * metrics.crps_fixed(probs_K, support_K, outcome_M),
        pit=metrics.pit_fixed(probs_K, support_K, outcome_M),
        call=expected_M,
    )


def score_bigram(dataset: TokenDataset, positions: Integers, bigram: Bigram) -> BarScores:
    """Score the distribution after the previous token, one distinct previous token at a time."""
    order, support_K = sorted_support(dataset)
    volatility_M, outcome_M = _volatility_and_outcome(dataset, positions)
    previous_M = dataset.tokens[positions - 1].astype(np.int64)
    expected_M, crps_M, pit_M = (np.empty(len(positions)) for _ in range(3))
    for previous, members in _members(previous_M):
        probs_K = bigram.row(previous)[order]
        expected_M[members] = probs_K @ support_K
        crps_M[members] = metrics.crps_fixed(probs_K, support_K, outcome_M[members])
        pit_M[members] = metrics.pit_fixed(probs_K, support_K, outcome_M[members])
    return BarScores(
        name="bigram",
        label="Bigram",
        nll=-bigram.log_probs(previous_M, dataset.tokens[positions].astype(np.int64)),
        expected_return=volatility_M * expected_M,
        crps=volatility_M * crps_M,
        pit=pit_M,
        call=expected_M,
    )


def score_normal(dataset: TokenDataset, positions: Integers) -> BarScores:
    """Score N(0, EWMA variance), the RiskMetrics forecast."""
    deviation_M = ewma_volatility(dataset)[positions]
    outcome_M = dataset.close_return[positions]
    crps_M = metrics.crps_normal(np.zeros_like(outcome_M), deviation_M, outcome_M)
    return BarScores(
        "ewma_normal", "EWMA normal", crps=crps_M, pit=metrics.normal_cdf(outcome_M / deviation_M)
    )


def score_unconditional(dataset: TokenDataset, positions: Integers) -> BarScores:
    """Score the training returns of all assets as one fixed distribution, whatever the day."""
    levels_Q = (np.arange(_NUM_SAMPLE_POINTS) + 0.5) / _NUM_SAMPLE_POINTS
    support_Q = np.quantile(dataset.close_return[training_bars(dataset)], levels_Q)
    weights_Q = np.full(_NUM_SAMPLE_POINTS, 1.0 / _NUM_SAMPLE_POINTS)
    outcome_M = dataset.close_return[positions]
    return BarScores(
        "unconditional",
        "Training returns",
        expected_return=np.full(len(positions), float(support_Q.mean())),
        crps=metrics.crps_fixed(weights_Q, support_Q, outcome_M),
        pit=metrics.pit_fixed(weights_Q, support_Q, outcome_M),
    )


def score_last_value(dataset: TokenDataset, positions: Integers) -> BarScores:
    """Score "the next close is the last close": a point forecast, whose CRPS is its absolute error."""
    outcome_M = dataset.close_return[positions]
    return BarScores(
        "last_value", "Last value", expected_return=np.zeros_like(outcome_M), crps=np.abs(outcome_M)
    )


def score_always_up(positions: Integers) -> BarScores:
    return BarScores("always_up", "Always up", call=np.ones(len(positions)))


def sorted_support(dataset: TokenDataset) -> tuple[Integers, Floats]:
    """Return the tokens in order of their close returns, and those returns in volatility units, [K]."""
    close_return_z_K = dataset.tokenizer.close_return_z.astype(np.float64)
    order = np.argsort(close_return_z_K, kind="stable")
    return order, close_return_z_K[order]


def _volatility_and_outcome(dataset: TokenDataset, positions: Integers) -> tuple[Floats, Floats]:
    volatility_M = dataset.volatility[positions].astype(np.float64)
    return volatility_M, dataset.close_return[positions] / volatility_M


def _members(labels: Integers) -> list[tuple[int, NDArray[np.intp]]]:
    order = np.argsort(labels, kind="stable")
    values, first = np.unique(labels[order], return_index=True)
    return [(int(value), group) for value, group in zip(values, np.split(order, first[1:]), strict=True)]
