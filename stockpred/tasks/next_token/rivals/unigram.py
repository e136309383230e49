"""How often each token comes in training, whatever came before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stockpred.data.arrays import Floats, Ints
from stockpred.data.splits import Split
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.targets import next_tokens, target_positions, training_bars

LABEL = "Unigram"
_ALPHAS = np.geomspace(1e-3, 1e3, 25)


@dataclass(frozen=True, eq=False)
class Unigram:
    """Token frequencies with ``alpha`` added to every count; alpha by likelihood of the validation tokens."""

    log_probs_K: Floats
    alpha: float

    @classmethod
    def fit(cls, train_tokens: Ints, validation_tokens: Ints, vocab_size: int) -> Unigram:
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

    @property
    def settings(self) -> Mapping[str, float]:
        return {"alpha": self.alpha}

    def log_probs(self, positions_M: Ints) -> Floats:
        return np.broadcast_to(self.log_probs_K, (len(positions_M), len(self.log_probs_K)))


def fit(dataset: TokenDataset) -> Unigram:
    return Unigram.fit(
        next_tokens(dataset, training_bars(dataset)),
        next_tokens(dataset, target_positions(dataset, Split.VALIDATION)),
        dataset.tokenizer.vocab_size,
    )
