"""One asset's bars as a regressor reads them: standardised inputs, and the next close as the target.

Shape suffixes: N bars, F features, M samples, T context_length. Sample n sees the T bars up to bar n, and its
target is the close of bar n+1. A stretch is a run of bars without a hole; no sample reaches over its ends.
Where a stretch has fewer than T bars up to bar n, the sample is filled at its beginning, so that the length
of the context moves no target.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.config.forecast import ForecastExperiment
from stockpred.data import store, universe
from stockpred.data.arrays import Floats, Ints
from stockpred.data.splits import Split, Splits
from stockpred.data.universe import Asset, Universe

CHANGES, LEVELS = "changes", "levels"
ARRAYS = ("inputs_NF", "time", "close", "stretch_start", "row", "split")
MAX_SYMBOLS_SHOWN = 8


@dataclass(frozen=True, eq=False)
class AssetSeries:
    """N bars of one asset, oldest first.

    A target in model units is (next close - ``target_mean``) / ``target_scale`` where inputs are levels, and
    the simple return of the next close / ``target_scale`` where they are changes: 0 then means that the price
    stays.
    """

    symbol: str
    category: str
    kind: str
    """``changes`` or ``levels``."""
    features: tuple[str, ...]
    inputs_NF: npt.NDArray[np.float32]
    time: Ints
    """[N] int64 ns since 1970 UTC."""
    close: Floats
    """[N] adjusted close."""
    stretch_start: Ints
    """[N] the first bar of each bar's stretch."""
    row: Ints
    """[N] the row of each bar among all that were checked."""
    split: Splits
    """[N] the split that bar n, as a target, belongs to."""
    target_mean: float
    target_scale: float

    def samples(self, split: Split) -> Ints:
        """Return the samples [M] whose target belongs to ``split``."""
        return sample_positions(self.stretch_start, self.split, split)

    def inputs(self, samples_M: Ints, split: Split, context_length: int) -> npt.NDArray[np.float32]:
        """Return the inputs [M, T, F] of samples of ``split``; those of training see training bars only.

        Before the first bar that it may see, a sample holds the mean change, or repeats that bar's levels.
        """
        bar_MT = samples_M[:, None] + np.arange(1 - context_length, 1)
        first_M1 = self._first_input(split)[samples_M, None]
        inputs_MTF: npt.NDArray[np.float32] = np.asarray(self.inputs_NF)[np.maximum(bar_MT, first_M1)]
        if self.kind == CHANGES:
            inputs_MTF[bar_MT < first_M1] = 0.0
        return inputs_MTF

    def _first_input(self, split: Split) -> Ints:
        """Return the first bar [N] that a sample which ends at each bar may see."""
        if split is not Split.TRAIN:
            return self.stretch_start
        changes = np.r_[False, self.split[1:] != self.split[:-1]]
        begins = np.where(changes, np.arange(len(self.split)), self.stretch_start)
        return np.asarray(np.maximum.accumulate(begins), np.int64)

    def returns(self, samples_M: Ints) -> Floats:
        """Return the simple returns [M] of the targets."""
        return np.asarray(self.close[samples_M + 1] / self.close[samples_M] - 1.0, np.float64)

    def targets(self, samples_M: Ints) -> Floats:
        """Return the targets [M] in model units."""
        if self.kind == CHANGES:
            return self.returns(samples_M) / self.target_scale
        return np.asarray((self.close[samples_M + 1] - self.target_mean) / self.target_scale, np.float64)

    def persistence(self, samples_M: Ints) -> Floats:
        """Return the forecast [M] in model units that the price stays."""
        if self.kind == CHANGES:
            return np.zeros(len(samples_M))
        return np.asarray((self.close[samples_M] - self.target_mean) / self.target_scale, np.float64)

    def prices(self, samples_M: Ints, forecast_M: Floats) -> Floats:
        """Turn forecasts [M] in model units into prices."""
        if self.kind == CHANGES:
            return np.asarray(self.close[samples_M] * (1.0 + self.target_scale * forecast_M), np.float64)
        return self.target_mean + self.target_scale * forecast_M


def sample_positions(stretch_start: Ints, split_N: Splits, split: Split) -> Ints:
    """Return the last input bar [M] of every sample of ``split``: its target follows in the same stretch.

    A training sample's last input bar is a training bar, too.
    """
    is_sample = (stretch_start[1:] == stretch_start[:-1]) & (split_N[1:] == split)
    if split is Split.TRAIN:
        is_sample &= split_N[:-1] == Split.TRAIN
    return np.flatnonzero(is_sample).astype(np.int64)


def only_asset(experiment: ForecastExperiment) -> tuple[Universe, Asset]:
    """Return the one asset of an experiment, and the universe of it alone.

    Raises UserError where data.symbol names none.
    """
    everything = universe.read(Path(experiment.data.universe))
    if experiment.data.symbol is None:
        some = ", ".join(everything.symbols[:MAX_SYMBOLS_SHOWN])
        more = " ..." if len(everything.symbols) > MAX_SYMBOLS_SHOWN else ""
        raise UserError(
            f"a run of learner {experiment.learner.name} trains one asset, and data.symbol names none",
            where="data.symbol",
            fix=f"choose one: STOCK={everything.symbols[0]} with make, else "
            f"data.symbol={everything.symbols[0]}; there are {some}{more}",
        )
    chosen = everything.restricted_to(experiment.data.symbol)
    return chosen, chosen.assets[0]


def features_of(experiment: ForecastExperiment, asset: Asset) -> tuple[str, ...]:
    """Return the features for the asset's category; raise UserError where there are none."""
    features = experiment.series.features.get(asset.category)
    if features is None:
        raise UserError(
            f"{asset.symbol} is of category {asset.category}, for which no features are named",
            where="series.features",
            fix=f"write a line `{asset.category}: [close]` under series.features of the case's config.yaml",
        )
    return features


def load(paths: RunPaths) -> AssetSeries:
    """Map a run's prepared bars; raise UserError where ``prepare`` has not finished."""
    asset_info, norm_stats = store.read_json_files(paths.prepared, paths.asset_info, paths.norm_stats)
    (asset,) = asset_info["assets"]
    return AssetSeries(
        symbol=asset["symbol"],
        category=asset["category"],
        kind=norm_stats["inputs"],
        features=tuple(norm_stats["features"]),
        **store.map_arrays(paths.prepared, ARRAYS),
        target_mean=norm_stats["target"]["mean"],
        target_scale=norm_stats["target"]["scale"],
    )
