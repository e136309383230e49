from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpred.data.splits import SplitRange
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.tokenizer import FEATURES, Tokenizer
from stockpred.tasks.next_token.windows import Windows


def make_dataset(lengths: list[int], first_days: list[int], num_days: int = 100) -> TokenDataset:
    """Return a dataset whose bar n has token n, so that a window tells which bars it holds."""
    count = sum(lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    num_segments = len(lengths)
    cuts = (num_days * 6 // 10, num_days * 7 // 10, num_days * 8 // 10, num_days * 9 // 10)
    codebook = np.zeros((max(count, 2), len(FEATURES)), np.float32)
    return TokenDataset(
        tokens=np.arange(count, dtype=np.uint16),
        segment_start=starts.astype(np.int64),
        segment_length=np.array(lengths, np.int64),
        segment_asset=np.arange(num_segments, dtype=np.int32),
        segment_category=np.zeros(num_segments, np.int32),
        time=np.concatenate(
            [np.arange(first, first + n) for first, n in zip(first_days, lengths, strict=True)]
        ),
        close=np.ones(count),
        volatility=np.ones(count, np.float32),
        close_return=np.zeros(count),
        assets=tuple(f"A{n}" for n in range(num_segments)),
        categories=("crypto",),
        asset_category=np.zeros(num_segments, np.int32),
        splits={
            "train": SplitRange(0, 0, cuts[0] - 1),
            "validation": SplitRange(cuts[0], cuts[1], cuts[2] - 1),
            "test": SplitRange(cuts[2], cuts[3], num_days - 1),
        },
        tokenizer=Tokenizer(codebook, codebook[:, 0], np.zeros(5), np.ones(5), 5.0),
    )


segments = st.lists(st.tuples(st.integers(2, 70), st.integers(0, 30)), min_size=1, max_size=6)


@settings(deadline=None)
@given(segments, st.integers(1, 20), st.integers(1, 25))
def test_windows_keep_their_promises(shape: list[tuple[int, int]], context: int, stride: int) -> None:
    dataset = make_dataset([length for length, _ in shape], [first for _, first in shape])
    segment_of = np.repeat(np.arange(len(shape)), [length for length, _ in shape])
    read: dict[str, set[int]] = {}
    for split, bounds in dataset.splits.items():
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
        read[split] = {
            int(bar)
            for start, length in zip(windows.start, windows.length, strict=True)
            for bar in range(start, start + length + 1)
        }
        time = dataset.time[sorted(read[split])]
        assert ((time >= bounds.context_start) & (time <= bounds.score_end)).all()
        may_read = (dataset.time >= bounds.context_start) & (dataset.time <= bounds.score_end)
        follows = np.r_[False, may_read[:-1] & (segment_of[1:] == segment_of[:-1])]
        expected = np.flatnonzero(may_read & follows & (dataset.time >= bounds.score_start))
        if split == "train":
            assert set(counted) == set(expected) or stride > context
        else:
            np.testing.assert_array_equal(np.sort(counted), expected)
    assert not read["train"] & read["validation"]
    assert not read["validation"] & read["test"]


def test_training_windows_begin_every_stride_and_end_with_the_segment() -> None:
    windows = Windows(make_dataset([50], [0]), "train", 8, 4)
    assert windows.start.tolist() == [*range(0, 41, 4), 41]
    assert (windows.length == 8).all()


def test_a_short_segment_is_padded_at_the_right() -> None:
    batch = Windows(make_dataset([4], [0]), "train", 6, 6).gather(np.array([0]))
    assert batch["mask"].tolist() == [[True, True, True, False, False, False]]
    assert batch["tokens"].tolist() == [[0, 1, 2, 0, 0, 0]]
    assert batch["position"].tolist() == [[1, 2, 3, -1, -1, -1]]


@pytest.mark.parametrize("stride", [1, 4])
def test_a_scored_target_sees_as_far_back_as_it_may(stride: int) -> None:
    dataset = make_dataset([100], [0])
    windows = Windows(dataset, "test", 6, stride)
    batch = windows.gather(np.arange(len(windows)))
    for row, position in zip(batch["position"], windows.start, strict=True):
        for target in row[row >= 0]:
            seen = target - position
            may = target - 80  # the embargo begins on day 80
            assert seen >= min(may, 6 - stride + 1)


def test_a_window_may_score_more_than_a_stride_while_it_sees_everything() -> None:
    windows = Windows(make_dataset([100], [0]), "test", 32, 4)
    assert len(windows) == 1
    assert windows.start.tolist() == [80]


def test_a_split_without_bars_has_no_windows() -> None:
    assert len(Windows(make_dataset([20], [0]), "test", 8, 4)) == 0
