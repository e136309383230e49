"""Samples of fixed length: T tokens, the T tokens that follow them, and which of those targets count.

Shape suffixes: B samples, T context_length, W windows. A window never leaves its segment. Those of training
read training bars only; those of validation and test reach back into whatever came before. Short runs are
padded at the right and masked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stockpred.data.arrays import Ints
from stockpred.data.splits import Split
from stockpred.tasks.next_token.dataset import TokenDataset


def scoring_stride(context_length: int, asked: int | None) -> int:
    """Return how many targets the windows of validation and test advance by; ``asked`` is data.score_stride.

    It is independent of training's stride, and decides how much context a scored bar has at least.
    """
    return asked or max(context_length // 4, 1)


class Windows:
    """The windows of one split.

    Training windows begin every ``stride`` bars, the last one shifted back to the end of its run. In the
    other splits every target counts exactly once: windows advance by ``stride`` targets (at most T), and a
    target has at least T - stride + 1 bars before it, or all that its segment has.
    """

    def __init__(self, dataset: TokenDataset, split: Split, context_length: int, stride: int) -> None:
        self.dataset = dataset
        self.split = split
        self.context_length = context_length
        runs = _runs(dataset, split)
        plan = _training_windows if split is Split.TRAIN else _scoring_windows
        start, length, score_from = plan(runs, context_length, min(stride, context_length))
        self.start: Ints = start
        """[W] first input bar."""
        self.length: Ints = length
        """[W] number of inputs that are not padding."""
        self.score_from: Ints = score_from
        """[W] first position whose target counts."""
        self.segment: Ints = np.searchsorted(dataset.segment_start, start, side="right") - 1

    def __len__(self) -> int:
        return len(self.start)

    @property
    def num_targets(self) -> Ints:
        """[W] targets that count."""
        return self.length - self.score_from

    def gather(self, indices: Ints) -> dict[str, npt.NDArray[Any]]:
        """Return tokens, targets, position int64 [B,T], mask bool [B,T], asset, category int64 [B].

        ``position`` is the index of the target's bar in the dataset, -1 where the target does not count.
        """
        offset = np.arange(self.context_length)
        start, length = self.start[indices, None], self.length[indices, None]
        is_bar = offset < length
        bar = np.where(is_bar, start + offset, start)
        tokens = self.dataset.tokens
        mask = is_bar & (offset >= self.score_from[indices, None])
        segment = self.segment[indices]
        return {
            "tokens": np.where(is_bar, tokens[bar], 0).astype(np.int64),
            "targets": np.where(is_bar, tokens[bar + 1], 0).astype(np.int64),
            "mask": mask,
            "asset": self.dataset.segment_asset[segment].astype(np.int64),
            "category": self.dataset.segment_category[segment].astype(np.int64),
            "position": np.where(mask, bar + 1, -1),
        }


Runs = tuple[Ints, Ints, Ints]
"""Per run of targets of one split: first bar that may be read, first target, one past the last bar."""


def _runs(dataset: TokenDataset, split: Split) -> Runs:
    """Return the stretches of consecutive targets; training reads training bars alone."""
    segment_start = np.asarray(dataset.segment_start)
    is_own = np.asarray(dataset.split) == split
    continues = np.r_[False, is_own[:-1] & is_own[1:]] if len(is_own) else is_own
    continues[segment_start] = False
    first = np.flatnonzero(is_own & ~continues)
    past = np.flatnonzero(is_own & ~np.r_[continues[1:], False]) + 1
    begin = first
    if split is not Split.TRAIN:
        begin = segment_start[np.searchsorted(segment_start, first, side="right") - 1]
    target = np.maximum(first, begin + 1)
    has_target = target < past
    return begin[has_target], target[has_target], past[has_target]


def _training_windows(runs: Runs, context_length: int, stride: int) -> Runs:
    begin, _, end = runs
    starts, lengths = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first, past in zip(begin, end, strict=True):
        num_inputs = past - first - 1
        last = first + max(num_inputs - context_length, 0)
        own = np.unique(np.r_[np.arange(first, last, stride), last])
        starts.append(own)
        lengths.append(np.full(len(own), min(num_inputs, context_length)))
    start = np.concatenate(starts)
    return start, np.concatenate(lengths), np.zeros(len(start), np.int64)


def _scoring_windows(runs: Runs, context_length: int, stride: int) -> Runs:
    begin, target, end = runs
    windows = []
    for first, scored, past in zip(begin, target, end, strict=True):
        # The first window may count more targets: its context begins with the run itself.
        final = past - 1
        first_end = min(max(first + context_length, scored - 1 + stride), final)
        ends = np.unique(np.r_[np.arange(first_end, final, stride), final])
        floor = scored - 1
        for last in ends:
            start = max(first, last - context_length)
            windows.append((start, last - start, floor - start))
            floor = last
    table = np.array(windows, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]
