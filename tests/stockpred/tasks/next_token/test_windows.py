from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpred.data.splits import USED, Split
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.tokenizer import FEATURES, Tokenizer
from stockpred.tasks.next_token.windows import Windows


def make_dataset(lengths: list[int], first_days: list[int]) -> TokenDataset:
    """Return a dataset whose bar n has token n, so that a window tells which bars it holds.

    Days 0 to 59 are for training, 65 to 79 for validation, 85 to 99 for the test.
    """
    count = sum(lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    num_segments = len(lengths)
    time = np.concatenate([np.arange(first, first + n) for first, n in zip(first_days, lengths, strict=True)])
    split = np.select(
        [time < 60, (time >= 65) & (time < 80), time >= 85],
        [Split.TRAIN, Split.VALIDATION, Split.TEST],
        Split.OUTSIDE,
    )
    codebook = np.zeros((max(count, 2), len(FEATURES)), np.float32)
    return TokenDataset(
        tokens=np.arange(count, dtype=np.uint16),
        segment_start=starts.astype(np.int64),
        segment_length=np.array(lengths, np.int64),
        segment_asset=np.arange(num_segments, dtype=np.int32),
        segment_category=np.zeros(num_segments, np.int32),
        time=time,
        close=np.ones(count),
        volatility=np.ones(count, np.float32),
        close_return=np.zeros(count),
        assets=tuple(f"A{n}" for n in range(num_segments)),
        categories=("crypto",),
        asset_category=np.zeros(num_segments, np.int32),
        row=np.arange(count),
        split=split.astype(np.int8),
        tokenizer=Tokenizer(codebook, codebook[:, 0], np.zeros(5), np.ones(5), 5.0),
    )


segments = st.lists(st.tuples(st.integers(2, 70), st.integers(0, 30)), min_size=1, max_size=6)


@settings(deadline=None)
@given(segments, st.integers(1, 20), st.integers(1, 25))
def test_windows_keep_their_promises(shape: list[tuple[int, int]], context: int, stride: int) -> None:
    dataset = make_dataset([length for length, _ in shape], [first for _, first in shape])
    segment_of = np.repeat(np.arange(len(shape)), [length for length, _ in shape])
    for split in USED:
        windows = Windows(dataset, split, context, stride)
        batch = windows.gather(np.arange(len(windows)))
        mask, position = batch["mask"], batch["position"]
        counted = position[mask]
        np.testing.assert_array_equal(batch["targets"][mask], counted)
        np.testing.assert_array_equal(batch["tokens"][mask], counted - 1)
        assert (position[~mask] == -1).all()
        np.testing.assert_array_equal(mask.sum(axis=1), windows.num_targets)
        owner = np.broadcast_to(batch["asset"][:, None], mask.shape)[mask]
        np.testing.assert_array_equal(segment_of[counted], owner)
        is_own = dataset.split == split
        follows = np.r_[False, segment_of[1:] == segment_of[:-1]]
        if split is Split.TRAIN:
            follows[1:] &= is_own[:-1]
            read = [
                bar
                for start, length in zip(windows.start, windows.length, strict=True)
                for bar in range(start, start + length + 1)
            ]
            assert is_own[read].all()
        expected = np.flatnonzero(is_own & follows)
        if split is Split.TRAIN:
            assert set(counted) == set(expected) or stride > context
        else:
            np.testing.assert_array_equal(np.sort(counted), expected)


@settings(deadline=None)
@given(segments, st.integers(1, 25))
def test_the_context_moves_no_scored_target(shape: list[tuple[int, int]], stride: int) -> None:
    dataset = make_dataset([length for length, _ in shape], [first for _, first in shape])
    for split in (Split.VALIDATION, Split.TEST):
        targets = []
        for context in (1, 7, 64):
            windows = Windows(dataset, split, context, stride)
            position = windows.gather(np.arange(len(windows)))["position"]
            targets.append(sorted(position[position >= 0].tolist()))
        assert targets[0] == targets[1] == targets[2]


def test_training_windows_begin_every_stride_and_end_with_the_segment() -> None:
    windows = Windows(make_dataset([50], [0]), Split.TRAIN, 8, 4)
    assert windows.start.tolist() == [*range(0, 41, 4), 41]
    assert (windows.length == 8).all()


def test_a_short_segment_is_padded_at_the_right() -> None:
    batch = Windows(make_dataset([4], [0]), Split.TRAIN, 6, 6).gather(np.array([0]))
    assert batch["mask"].tolist() == [[True, True, True, False, False, False]]
    assert batch["tokens"].tolist() == [[0, 1, 2, 0, 0, 0]]
    assert batch["position"].tolist() == [[1, 2, 3, -1, -1, -1]]


@pytest.mark.parametrize("stride", [1, 4])
def test_a_scored_target_sees_as_far_back_as_it_may(stride: int) -> None:
    dataset = make_dataset([100], [0])
    windows = Windows(dataset, Split.TEST, 6, stride)
    batch = windows.gather(np.arange(len(windows)))
    for row, position in zip(batch["position"], windows.start, strict=True):
        for target in row[row >= 0]:
            seen = target - position
            assert seen >= 6 - stride + 1


def test_a_window_may_score_more_than_a_stride_while_it_sees_everything() -> None:
    windows = Windows(make_dataset([20], [80]), Split.TEST, 32, 4)
    assert len(windows) == 1
    assert windows.start.tolist() == [0]


def test_a_split_without_bars_has_no_windows() -> None:
    assert len(Windows(make_dataset([20], [0]), Split.TEST, 8, 4)) == 0
