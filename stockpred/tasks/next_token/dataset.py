"""Prepared bars as every rank reads them: numpy arrays mapped from disk, no pandas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc.base import records
from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.data import splits, store
from stockpred.data.splits import SplitRange
from stockpred.tasks.next_token.tokenizer import Tokenizer

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """N token bars, segment after segment; a segment is a stretch of one asset without a hole.

    Bar n's token and return refer to bar n-1 of the same asset, also for the first bar of a segment.
    """

    tokens: npt.NDArray[np.uint16]
    """[N]"""
    segment_start: Ints
    segment_length: Ints
    segment_asset: npt.NDArray[np.int32]
    segment_category: npt.NDArray[np.int32]
    day: Ints
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
    splits: Mapping[str, SplitRange]
    tokenizer: Tokenizer


ARRAYS = (
    "tokens", "segment_start", "segment_length", "segment_asset", "segment_category",
    "day", "close", "volatility", "close_return", "asset_category",
)  # fmt: skip


def save_arrays(dataset: Dataset, directory: Path) -> None:
    for name in ARRAYS:
        np.save(directory / f"{name}.npy", getattr(dataset, name))


def load(paths: RunPaths) -> Dataset:
    """Map a run's prepared bars; raise UserError where ``prepare`` has not finished."""
    assets, info = records.read_json_if_any(paths.asset_info), records.read_json_if_any(paths.data_info)
    if store.read_manifest(paths.prepared) is None or assets is None or info is None:
        raise UserError("the bars are not prepared", where=str(paths.prepared), fix="start the run again")
    arrays = {name: np.load(paths.prepared / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return Dataset(
        **arrays,
        assets=tuple(asset["symbol"] for asset in assets["assets"]),
        categories=tuple(assets["categories"]),
        splits=splits.read(info["splits"]),
        tokenizer=Tokenizer.load(paths.tokenizer),
    )
