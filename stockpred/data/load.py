"""Load the bars of a universe from their source, check them, and split their dates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hpc.base.errors import UserError
from stockpred.config import registry
from stockpred.config.base import DataConfig
from stockpred.config.registry import SOURCES
from stockpred.data import bars as bar_table
from stockpred.data import quality, splits
from stockpred.data.bars import SourceBars
from stockpred.data.quality import CheckedBars
from stockpred.data.splits import SplitRange
from stockpred.data.universe import Universe


@dataclass(frozen=True, eq=False)
class UniverseBars:
    """The bars of a universe between the configured dates: as the source gave them, checked, and split."""

    universe: Universe
    source: SourceBars
    checked: CheckedBars
    splits: Mapping[str, SplitRange]

    @property
    def findings(self) -> pd.DataFrame:
        """Return the findings of the source and of the checks in one table."""
        return bar_table.join_findings([self.source.findings, self.checked.findings])

    @property
    def sha256(self) -> str:
        """Return a hash of the bars' values, whatever file held them."""
        return bar_table.digest(self.source.bars)


def load_checked_bars(config: DataConfig, universe: Universe, context_length: int) -> UniverseBars:
    """Load the bars of ``universe``, check them and split their dates.

    Raises UserError where the source has not all of them, where none lie between ``data.start`` and
    ``data.end``, and where their dates are too few for the split.
    """
    load = registry.load(SOURCES, config.source, where="data.source").load
    source = _between(load(config, universe), config)
    category_of = {asset.symbol: asset.category for asset in universe.assets}
    checked = quality.check(source.bars, category_of, config.max_hole_sessions)
    times = np.unique(checked.columns.time)
    parts = splits.cut(times, config.split, context_length, where="data.split")
    return UniverseBars(universe, source, checked, parts)


def _between(source: SourceBars, config: DataConfig) -> SourceBars:
    """Keep the bars from ``data.start`` to ``data.end``, both included; raise UserError where none remain."""
    time = source.bars["time"]
    keep = pd.Series(True, index=source.bars.index)
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
    return replace(source, bars=source.bars[keep].reset_index(drop=True))
