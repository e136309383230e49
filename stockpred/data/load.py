"""From a source to checked bars with their dates cut: what every way of learning begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpc.base.errors import UserError
from stockpred.config import registry
from stockpred.config.base import DataConfig
from stockpred.config.registry import SOURCES
from stockpred.data import bars as bar_table
from stockpred.data import quality, splits
from stockpred.data.bars import Loaded
from stockpred.data.quality import Checked
from stockpred.data.splits import SplitRange
from stockpred.data.universe import Universe


@dataclass(frozen=True, eq=False)
class Intake:
    """The bars of a universe between the asked dates, what the checks say of them, and the parts of time."""

    universe: Universe
    loaded: Loaded
    checked: Checked
    splits: Mapping[str, SplitRange]

    @property
    def bars_sha256(self) -> str:
        return bar_table.digest(self.loaded.bars)


def take_in(config: DataConfig, assets: Universe, context_length: int) -> Intake:
    """Load the bars of ``assets``, check them and cut their dates; raise UserError where that cannot be."""
    source = registry.load(SOURCES, config.source, where="data.source")
    loaded = _within(source.load(config, assets), config)
    category_of = {asset.symbol: asset.category for asset in assets.assets}
    checked = quality.check(loaded.bars, category_of, config.max_hole_sessions)
    days = np.unique(bar_table.times_ns(loaded.bars))
    return Intake(assets, loaded, checked, splits.cut(days, config.split, context_length, where="data.split"))


def _within(loaded: Loaded, config: DataConfig) -> Loaded:
    """Keep the bars from ``data.start`` to ``data.end``; raise UserError where none lie there."""
    time = loaded.bars["time"]
    keep = pd.Series(True, index=loaded.bars.index)
    if config.start:
        keep &= time >= pd.Timestamp(config.start, tz="UTC")
    if config.end:
        keep &= time < pd.Timestamp(config.end, tz="UTC") + pd.Timedelta(days=1)
    if not keep.any():
        raise UserError(
            f"no bars between {config.start or 'the beginning'} and {config.end or 'the end'}; "
            f"they go from {time.min():%Y-%m-%d} to {time.max():%Y-%m-%d}",
            where="data.start" if config.start else "data.end",
            fix="choose dates inside",
        )
    return Loaded(loaded.bars[keep].reset_index(drop=True), loaded.findings, loaded.origin)
