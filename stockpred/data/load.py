"""Load the bars of a universe from their source, check them, and cut their dates into a fold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hpc.base.errors import UserError
from stockpred.config import registry
from stockpred.config.base import DataConfig
from stockpred.config.registry import SOURCES
from stockpred.data import bars as bar_table
from stockpred.data import folds, quality
from stockpred.data.bars import BarColumns, SourceBars
from stockpred.data.folds import Fold
from stockpred.data.quality import CheckedBars
from stockpred.data.splits import Split, Splits
from stockpred.data.universe import Universe


@dataclass(frozen=True, eq=False)
class UniverseBars:
    """The bars of a universe between the configured dates: as the source gave them, checked, and split.

    ``split`` [N] says to which split the label that ends at each checked bar belongs.
    """

    universe: Universe
    source: SourceBars
    checked: CheckedBars
    fold: Fold
    split: Splits

    @property
    def findings(self) -> pd.DataFrame:
        """Return the findings of the source and of the checks in one table."""
        return bar_table.join_findings([self.source.findings, self.checked.findings])

    @property
    def sha256(self) -> str:
        """Return a hash of the bars' values, whatever file held them."""
        return bar_table.digest(self.source.bars)


def load_checked_bars(config: DataConfig, universe: Universe) -> UniverseBars:
    """Load the bars of ``universe``, check them and cut their dates into the configured fold.

    Raises UserError where the source has not all of them, where none lie between ``data.start`` and
    ``data.end``, and where their dates are too few for the fold.
    """
    load = registry.load(SOURCES, config.source, where="data.source").load
    source = _between(load(config, universe), config)
    category_of = {asset.symbol: asset.category for asset in universe.assets}
    checked = quality.check(source.bars, category_of, config.max_hole_sessions)
    fold = folds.cut(np.unique(checked.columns.time), config)
    return UniverseBars(universe, source, checked, fold, _assigned(fold, checked.columns, config.embargo))


def _assigned(fold: Fold, columns: BarColumns, embargo: int) -> Splits:
    """Return the split of each bar; an asset without training bars has no say in what validation chooses."""
    split = folds.assign(fold, columns.time, columns.asset, embargo=embargo)
    num_training = np.bincount(columns.asset, split == Split.TRAIN)
    is_unseen = num_training[columns.asset] == 0
    return np.where(is_unseen & (split == Split.VALIDATION), np.int8(Split.OUTSIDE), split)


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
