"""Prepare one asset's bars for regression: source, checks, split, inputs, scaling; everything or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc.base import records
from hpc.base.errors import UserError, raise_all
from hpc.run.paths import RunPaths
from stockpred.config.forecast import ForecastExperiment
from stockpred.data import bars as bar_table
from stockpred.data import describe, splits
from stockpred.data.load import Intake, take_in
from stockpred.data.prepared import Contents, Settings, write_once
from stockpred.data.universe import Asset
from stockpred.tasks.forecast import inputs as make_inputs
from stockpred.tasks.forecast.dataset import (
    ARRAYS,
    CHANGES,
    Series,
    features_of,
    only_asset,
    sample_positions,
)
from stockpred.tasks.forecast.inputs import CLIP, Inputs, Scaling

Floats = npt.NDArray[np.float64]

MAX_UNKNOWN_SHARE = 0.05
"""Unknown more often, a feature says little: the model would see what was filled in."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that ``prepare`` writes, still in memory."""

    intake: Intake
    scaling: Scaling
    series: Series
    num_training_bars: int


def prepare(experiment: ForecastExperiment, paths: RunPaths, *, guard: Callable[[], None]) -> None:
    """Write norm_stats.json, asset_info.json, data_info.json and ``prepared/``.

    Complete prepared bars are verified and used again. Raises UserError for bars that differ from those the
    run began with, and for bars that cannot be trained on. ``guard`` is called right before anything in the
    run directory is written or removed, and raises where another attempt holds the run.
    """
    settings = Settings.of(
        experiment.data,
        series=experiment.series.model_dump(mode="json"),
        context_length=experiment.model.context_length,
    )
    told = frozenset({paths.asset_info, paths.norm_stats})
    write_once(paths, settings, told, lambda: _contents(experiment, paths), guard)


def build(experiment: ForecastExperiment) -> Prepared:
    """Turn a source's bars into a series; everything that is fitted sees training dates only."""
    assets, asset = only_asset(experiment)
    features = features_of(experiment, asset)
    context_length = experiment.model.context_length
    intake = take_in(experiment.data, assets, context_length)
    raise_all(list(_unknown_features(intake, asset, features)))
    is_changes = experiment.series.inputs == CHANGES
    inputs = (make_inputs.changes if is_changes else make_inputs.levels)(intake.checked, features)
    time = bar_table.times_ns(intake.checked.bars)[inputs.rows]
    is_training = time <= intake.splits["train"].score_end
    _refuse_too_little(intake, inputs, time, context_length)
    scaling = Scaling.fit(inputs.raw_NF[is_training], CLIP if is_changes else None)
    close = intake.checked.bars["close"].to_numpy(np.float64)[inputs.rows]
    training = sample_positions(time, inputs.stretch_start, intake.splits["train"], context_length)
    mean, scale = _target_scaling(experiment, close, training, is_training)
    series = Series(
        symbol=asset.symbol,
        category=asset.category,
        kind=experiment.series.inputs,
        features=features,
        inputs_NF=scaling.apply(inputs.raw_NF),
        time=time,
        close=close,
        stretch_start=inputs.stretch_start,
        splits=intake.splits,
        target_mean=mean,
        target_scale=scale,
    )
    return Prepared(intake, scaling, series, int(is_training.sum()))


def _target_scaling(
    experiment: ForecastExperiment,
    close: Floats,
    training: npt.NDArray[np.int64],
    is_training: npt.NDArray[np.bool_],
) -> tuple[float, float]:
    """Return mean and scale of the target on training dates.

    The returns of changes are not centred: a forecast of 0 is then persistence.
    """
    if experiment.series.inputs == CHANGES:
        returns = close[training + 1] / close[training] - 1.0
        return 0.0, float(np.sqrt(np.square(returns).mean())) or 1.0
    fitted = Scaling.fit(close[is_training, None], None)
    return float(fitted.mean[0]), float(fitted.scale[0])


def _unknown_features(intake: Intake, asset: Asset, features: tuple[str, ...]) -> Iterator[UserError]:
    """Yield an error for each feature, and each price, that too many bars of a split do not have."""
    day = bar_table.times_ns(intake.checked.bars)
    for name in dict.fromkeys((*features, *bar_table.PRICES)):
        unknown = make_inputs.unknown(intake.checked, name)
        for split, part in intake.splits.items():
            own = unknown[(day >= part.context_start) & (day <= part.score_end)]
            if own.mean() > MAX_UNKNOWN_SHARE:
                lacks = f"{name} of {asset.symbol} is unknown or not above 0"
                remedy = f"take {name} out of series.features.{asset.category}, or bring bars that have it"
                yield UserError(
                    f"{lacks} in {own.sum()} of {len(own)} bars of the {split} dates",
                    where=f"series.features.{asset.category}",
                    fix=remedy if name == "volume" else "bring bars that have it, or use other dates",
                )
                break


def _refuse_too_little(
    intake: Intake, inputs: Inputs, time: npt.NDArray[np.int64], context_length: int
) -> None:
    """Raise UserError where a split has no sample."""
    for name, part in intake.splits.items():
        if len(sample_positions(time, inputs.stretch_start, part, context_length)):
            continue
        own = (time >= part.context_start) & (time <= part.score_end)
        longest = int(np.bincount(inputs.stretch_start[own]).max()) if own.any() else 0
        raise UserError(
            f"the {name} dates hold no target with {context_length} bars before it: their longest stretch "
            f"without a hole has {longest} usable bars, {context_length + 1} are needed",
            where="model.context_length",
            fix="use more bars, or a smaller model.context_length",
        )


def _contents(experiment: ForecastExperiment, paths: RunPaths) -> Contents:
    prepared = build(experiment)
    norm_stats = _norm_stats(prepared, experiment.model.context_length)
    categories = list(prepared.intake.universe.categories)
    asset_info = {"assets": describe.assets(prepared.intake), "categories": categories}
    return Contents(
        prepared.intake,
        told={
            paths.norm_stats: lambda path: records.write_json(path, norm_stats),
            paths.asset_info: lambda path: records.write_json(path, asset_info),
        },
        data_info=_data_info(experiment, prepared),
        save_arrays=lambda directory: _save_arrays(prepared.series, directory),
    )


def _norm_stats(prepared: Prepared, context_length: int) -> dict[str, Any]:
    series, scaling = prepared.series, prepared.scaling
    is_changes = series.kind == CHANGES
    return {
        "fitted_on": splits.describe(series.splits["train"]),
        "num_bars": prepared.num_training_bars,
        "inputs": series.kind,
        "clip": scaling.clip,
        "features": {
            name: {"mean": float(mean), "scale": float(scale)}
            for name, mean, scale in zip(series.features, scaling.mean, scaling.scale, strict=True)
        },
        "target": {
            "of": "simple return of the next close" if is_changes else "next close",
            "mean": series.target_mean,
            "scale": series.target_scale,
            "num_targets": len(series.samples("train", context_length)),
        },
    }


def _data_info(experiment: ForecastExperiment, prepared: Prepared) -> dict[str, Any]:
    series = prepared.series
    counts = {name: len(series.samples(name, experiment.model.context_length)) for name in series.splits}
    return describe.bars(experiment.data, prepared.intake) | {
        "num_usable_bars": len(series.time),
        "num_segments": len(np.unique(series.stretch_start)),
        "windows": {name: {"windows": count, "targets": count} for name, count in counts.items()},
    }


def _save_arrays(series: Series, directory: Path) -> None:
    for name in ARRAYS:
        np.save(directory / f"{name}.npy", getattr(series, name))
