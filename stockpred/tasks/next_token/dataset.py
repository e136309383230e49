"""Prepared tokens as every rank reads them: numpy arrays mapped from disk, without pandas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpc.run.paths import RunPaths
from stockpred.data import store
from stockpred.data.arrays import Ints
from stockpred.data.splits import Splits
from stockpred.tasks.next_token.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class TokenDataset:
    """N bars with their tokens in S segments; a segment is a stretch of one asset without a hole.

    Bar n's token and return refer to bar n-1 of the same asset, also for the first bar of a segment.
    """

    tokens: npt.NDArray[np.uint16]
    """[N]"""
    segment_start: Ints
    """[S] first bar of each segment."""
    segment_length: Ints
    segment_asset: npt.NDArray[np.int32]
    segment_category: npt.NDArray[np.int32]
    time: Ints
    """[N] int64 ns since 1970 UTC."""
    close: npt.NDArray[np.float64]
    """[N] adjusted close."""
    volatility: npt.NDArray[np.float32]
    """[N] known before bar n: the log return of bar n is its z times this."""
    close_return: npt.NDArray[np.float64]
    """[N] log return of bar n against bar n-1."""
    assets: tuple[str, ...]
    categories: tuple[str, ...]
    asset_category: npt.NDArray[np.int32]
    row: Ints
    """[N] int64 place of bar n among all checked bars of the run, where rivals of returns forecast it."""
    split: Splits
    """[N] the split that bar n, as a target, belongs to."""
    tokenizer: Tokenizer


ARRAYS = (
    "tokens", "segment_start", "segment_length", "segment_asset", "segment_category",
    "time", "close", "volatility", "close_return", "asset_category", "row", "split",
)  # fmt: skip


def load(paths: RunPaths) -> TokenDataset:
    """Map a run's prepared bars; raise UserError where ``prepare`` has not finished."""
    asset_info, _ = store.read_json_files(paths.prepared, paths.asset_info, paths.data_info)
    return TokenDataset(
        **store.map_arrays(paths.prepared, ARRAYS),
        assets=tuple(asset["symbol"] for asset in asset_info["assets"]),
        categories=tuple(asset_info["categories"]),
        tokenizer=Tokenizer.load(paths.tokenizer),
    )
