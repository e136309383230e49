"""Which bars are forecast: a target is a bar that has a predecessor in its own segment.

Shape suffixes: N bars of the dataset, M targets, given by their positions in the dataset.
"""

from __future__ import annotations

import numpy as np

from stockpred.data.arrays import Ints
from stockpred.data.splits import Split
from stockpred.tasks.next_token.dataset import TokenDataset


def training_bars(dataset: TokenDataset) -> Ints:
    """Return the positions of the bars that training may read."""
    return np.flatnonzero(dataset.split == Split.TRAIN)


def target_positions(dataset: TokenDataset, split: Split) -> Ints:
    """Return the positions that a split scores: its bars that have a predecessor which it may read."""
    has_predecessor = np.ones(len(dataset.tokens), dtype=np.bool_)
    has_predecessor[dataset.segment_start] = False
    if split is Split.TRAIN:
        has_predecessor[1:] &= dataset.split[:-1] == Split.TRAIN
    return np.flatnonzero((dataset.split == split) & has_predecessor)


def next_tokens(dataset: TokenDataset, positions_M: Ints) -> Ints:
    """Return the tokens at positions as int64, which may be multiplied and subtracted."""
    return np.asarray(dataset.tokens[positions_M], np.int64)


def asset_of_bars(dataset: TokenDataset) -> Ints:
    """Return the asset of each bar, as its place in ``dataset.assets``, [N]."""
    return np.repeat(dataset.segment_asset, dataset.segment_length).astype(np.int64)
