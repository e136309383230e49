"""Which bars are scored: exactly those of the windows, each with a predecessor that its split may read."""

from __future__ import annotations

import numpy as np
import pytest

from stockpred.data.splits import USED, Split
from stockpred.tasks.next_token.targets import asset_of_bars, target_positions
from stockpred.tasks.next_token.windows import Windows
from tests.stockpred.token_market import MakeMarket


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
@pytest.mark.parametrize("stride", [3, 12])
def test_targets_are_exactly_those_of_the_windows(make_market: MakeMarket, split: Split, stride: int) -> None:
    market = make_market()
    windows = Windows(market, split, 12, stride)
    arrays = windows.gather(np.arange(len(windows)))
    np.testing.assert_array_equal(
        np.sort(arrays["position"][arrays["mask"]]), target_positions(market, split)
    )


@pytest.mark.parametrize("split", USED)
def test_pairs_never_cross_a_segment_nor_the_edge_of_a_split(make_market: MakeMarket, split: Split) -> None:
    market = make_market()
    targets = target_positions(market, split)
    segment = np.repeat(np.arange(len(market.segment_start)), market.segment_length)
    assert len(market.segment_start) == 7
    np.testing.assert_array_equal(segment[targets], segment[targets - 1])
    assert (market.split[targets] == split).all()
    if split is Split.TRAIN:
        assert (market.split[targets - 1] == Split.TRAIN).all()


def test_bars_are_of_the_asset_of_their_segment(make_market: MakeMarket) -> None:
    market = make_market(num_assets=3, num_days=60)
    asset = asset_of_bars(market)
    for start, length, own in zip(
        market.segment_start, market.segment_length, market.segment_asset, strict=True
    ):
        assert (asset[start : start + length] == own).all()
