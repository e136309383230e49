"""One bar, one token: the nearest of ``vocab_size`` typical candles, found by k-means on training bars.

Shape suffixes: N bars, K tokens, F features (see features.py). Centroids are in standardised units:
(features - mean) / scale, cut at +-clip. The file is JSON and keeps every bit of every float.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc.base import records
from hpc.base.errors import UserError
from stockpred.data.arrays import Floats
from stockpred.tasks.next_token import kmeans

FEATURES = ("close_return", "open_gap", "upper_wick", "lower_wick", "volume")
NEVER_NEGATIVE = ("upper_wick", "lower_wick")
FORMAT = 1
SCALE_FLOOR = 0.05
"""Where opens equal the close before, the gap is rounding noise, which must not fill the codebook."""


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """The codebook and the scaling, both fitted on training bars."""

    centroids: npt.NDArray[np.float32]
    """[K, F] in standardised units."""
    log_unigram: npt.NDArray[np.float32]
    """[K] log frequency of each token among training bars, every token counted once more."""
    mean: Floats
    scale: Floats
    clip: float

    @property
    def vocab_size(self) -> int:
        return len(self.centroids)

    @property
    def close_return_z(self) -> npt.NDArray[np.float32]:
        """[K] each token's close return in units of volatility: its log return is this times volatility."""
        column = FEATURES.index("close_return")
        return np.asarray(self.decode(np.arange(self.vocab_size))[:, column], np.float32)

    def standardise(self, features_NF: Floats) -> npt.NDArray[np.float32]:
        return _standardise(features_NF, self.mean, self.scale, self.clip)

    def encode(self, features_NF: Floats) -> npt.NDArray[np.int64]:
        """Return the token of each bar."""
        return kmeans.nearest(self.standardise(features_NF), self.centroids)

    def decode(self, tokens: npt.NDArray[Any]) -> Floats:
        """Return [..., F] features; wicks are never negative, so that every candle made of them is valid."""
        features: Floats = self.centroids[tokens].astype(np.float64) * self.scale + self.mean
        for name in NEVER_NEGATIVE:
            column = FEATURES.index(name)
            features[..., column] = np.maximum(features[..., column], 0.0)
        return features

    def to_json(self) -> str:
        """Return the text from which ``load`` reads the same tokenizer, bit for bit."""
        return json.dumps(self._content(), allow_nan=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read ``path``; raise UserError for a file that is not a tokenizer of this version."""
        content = records.read_json_if_any(path)
        if content is None or content.get("format") != FORMAT or content.get("features") != list(FEATURES):
            raise UserError("is not a tokenizer that this version reads", where=str(path))
        return cls(
            centroids=np.array(content["centroids"], np.float32),
            log_unigram=np.array(content["log_unigram"], np.float32),
            mean=np.array(content["mean"], np.float64),
            scale=np.array(content["scale"], np.float64),
            clip=float(content["clip"]),
        )

    def _content(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "features": list(FEATURES),
            "vocab_size": self.vocab_size,
            "clip": self.clip,
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "log_unigram": self.log_unigram.tolist(),
            "centroids": self.centroids.tolist(),
        }


def fit(features_NF: Floats, *, vocab_size: int, clip: float, seed: int, max_fit_bars: int) -> Tokenizer:
    """Learn a tokenizer from the features of training bars.

    Scaling and token frequencies use all of them, k-means at most ``max_fit_bars``. Raises UserError where
    they hold fewer distinct candles than ``vocab_size``.
    """
    mean, scale = features_NF.mean(axis=0), np.maximum(features_NF.std(axis=0), SCALE_FLOOR)
    standard = _standardise(features_NF, mean, scale, clip)
    sample = standard
    if len(standard) > max_fit_bars:
        chosen = np.random.default_rng(seed).choice(len(standard), max_fit_bars, replace=False)
        sample = standard[np.sort(chosen)]
    distinct = len(np.unique(sample, axis=0))
    if distinct < vocab_size:
        raise UserError(
            f"vocab_size {vocab_size} is larger than the {distinct} distinct candles it is fitted on",
            where="tokenizer.vocab_size",
            fix=f"use at most {distinct}, more training bars, or a larger tokenizer.max_fit_bars",
        )
    centroids = kmeans.fit(sample, vocab_size, seed)
    counts = np.bincount(kmeans.nearest(standard, centroids), minlength=vocab_size) + 1.0
    log_unigram = np.log(counts / counts.sum()).astype(np.float32)
    return Tokenizer(centroids, log_unigram, mean, scale, clip)


def _standardise(features_NF: Floats, mean: Floats, scale: Floats, clip: float) -> npt.NDArray[np.float32]:
    return np.clip((features_NF - mean) / scale, -clip, clip).astype(np.float32)
