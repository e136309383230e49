"""How often each token followed the last one in training, smoothed towards the unigram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stockpred.data.arrays import Floats, Ints
from stockpred.data.splits import Split
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.rivals import unigram as unigram_rival
from stockpred.tasks.next_token.rivals.unigram import Unigram
from stockpred.tasks.next_token.targets import next_tokens, target_positions

LABEL = "Bigram"
_TAUS = np.geomspace(1e-1, 1e6, 57)


@dataclass(frozen=True, eq=False)
class Bigram:
    """p(k | j) = (count(j, k) + tau p(k)) / (count(j) + tau), with p the unigram (Dirichlet smoothing).

    ``codes`` holds the pairs seen in training as sorted j K + k, so that no [K, K] table is kept.
    """

    codes: Ints
    counts: Floats
    row_total_K: Floats
    unigram: Unigram
    tau: float

    @classmethod
    def fit(cls, train: tuple[Ints, Ints], validation: tuple[Ints, Ints], unigram: Unigram) -> Bigram:
        """Count (previous, next) pairs of training; choose tau by the likelihood of the validation pairs."""
        vocab_size = len(unigram.log_probs_K)
        codes, counts = np.unique(train[0] * vocab_size + train[1], return_counts=True)
        row_total_K = np.bincount(train[0], minlength=vocab_size).astype(np.float64)
        candidates = [
            cls(codes, counts.astype(np.float64), row_total_K, unigram, float(tau)) for tau in _TAUS
        ]
        if len(validation[0]) == 0:
            return candidates[-1]
        return max(candidates, key=lambda bigram: float(bigram.pair_log_probs(*validation).sum()))

    def pair_log_probs(self, previous_M: Ints, next_M: Ints) -> Floats:
        """Return the log probability of one token after another, [M]."""
        wanted_M = previous_M * len(self.row_total_K) + next_M
        place_M = np.minimum(np.searchsorted(self.codes, wanted_M), len(self.codes) - 1)
        count_M = np.where(self.codes[place_M] == wanted_M, self.counts[place_M], 0.0)
        prior_M = self.tau * self.unigram.probs_K[next_M]
        return np.asarray(np.log(count_M + prior_M) - np.log(self.row_total_K[previous_M] + self.tau))

    def row(self, previous: int) -> Floats:
        """Return the distribution after one token, [K]."""
        vocab_size = len(self.row_total_K)
        first, last = np.searchsorted(self.codes, [previous * vocab_size, (previous + 1) * vocab_size])
        mass_K = self.tau * self.unigram.probs_K
        mass_K[self.codes[first:last] - previous * vocab_size] += self.counts[first:last]
        return np.asarray(mass_K / (self.row_total_K[previous] + self.tau))


@dataclass(frozen=True, eq=False)
class FittedBigram:
    """A bigram, and the tokens that it reads the last one from."""

    bigram: Bigram
    dataset: TokenDataset

    @property
    def settings(self) -> Mapping[str, float]:
        return {"tau": self.bigram.tau}

    def log_probs(self, positions_M: Ints) -> Floats:
        previous_M = next_tokens(self.dataset, positions_M - 1)
        distinct_U, place_M = np.unique(previous_M, return_inverse=True)
        rows_UK = np.stack([self.bigram.row(int(previous)) for previous in distinct_U])
        return np.asarray(np.log(rows_UK)[place_M])


def fit(dataset: TokenDataset) -> FittedBigram:
    unigram = unigram_rival.fit(dataset)
    pairs = [_pairs(dataset, split) for split in (Split.TRAIN, Split.VALIDATION)]
    return FittedBigram(Bigram.fit(pairs[0], pairs[1], unigram), dataset)


def _pairs(dataset: TokenDataset, split: Split) -> tuple[Ints, Ints]:
    targets = target_positions(dataset, split)
    return next_tokens(dataset, targets - 1), next_tokens(dataset, targets)
