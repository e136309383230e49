"""One asset's bars as a regressor reads them, beside pandas and by hand."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.config.forecast import ForecastExperiment
from stockpred.data import store
from stockpred.data.splits import Split
from stockpred.tasks.forecast import prepare
from stockpred.tasks.forecast.dataset import ARRAYS, AssetSeries, load

MakeExperiment = Callable[..., ForecastExperiment]
MakeBars = Callable[..., pd.DataFrame]
WriteUniverse = Callable[..., Path]
FEATURES = ["open", "high", "low", "close", "volume"]
CASE = Path(__file__).resolve().parents[4] / "cases" / "per_stock"
T = 8


class Market:
    """A folder with the bars of X, and experiments on it."""

    def __init__(self, folder: Path, universe: Path, make: MakeExperiment) -> None:
        self.folder, self.universe, self.make = folder, universe, make
        folder.mkdir()

    def experiment(self, bars: pd.DataFrame, **changes: Any) -> ForecastExperiment:
        bars.drop(columns="symbol").to_parquet(self.folder / "X.parquet", index=False)
        return self.make(self.universe, data__source="files", data__dir=str(self.folder), **changes)

    def series(self, bars: pd.DataFrame, **changes: Any) -> AssetSeries:
        return prepare.build(self.experiment(bars, **changes)).series


@pytest.fixture
def market(
    tmp_path: Path, write_universe: WriteUniverse, make_regression_experiment: MakeExperiment
) -> Market:
    universe = write_universe("X,x,us_equity,,,", "Y,y,index,,,")
    return Market(tmp_path / "bars", universe, make_regression_experiment)


def ns(bars: pd.DataFrame) -> np.ndarray:
    return bars["time"].astype("datetime64[ns, UTC]").astype(np.int64).to_numpy()


def end_of_training(series: AssetSeries) -> int:
    return int(series.time[series.split == Split.TRAIN].max())


def test_what_is_prepared_is_what_is_loaded(market: Market, make_bars: MakeBars, run_paths: RunPaths) -> None:
    experiment = market.experiment(make_bars())
    prepare.prepare(experiment, run_paths)
    loaded, built = load(run_paths), prepare.build(experiment).series
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(built, name))
    for name in ("symbol", "category", "kind", "features", "target_mean", "target_scale"):
        assert getattr(loaded, name) == getattr(built, name)
    assert loaded.inputs_NF.dtype == np.float32


def test_changes_are_log_ratios_to_the_close_before_in_training_deviations(
    market: Market, make_bars: MakeBars
) -> None:
    bars = make_bars()
    series = market.series(bars)
    table = bars.set_index(ns(bars))
    expected = np.log(table[["open", "high", "low", "close"]]).sub(np.log(table["close"]).shift(), axis=0)
    expected["volume"] = np.log(table["volume"]).diff()
    expected = expected.iloc[1:]
    training = expected[expected.index <= end_of_training(series)]
    expected = (expected - training.mean()) / training.std(ddof=0)
    np.testing.assert_array_equal(series.time, expected.index)
    np.testing.assert_allclose(series.inputs_NF, expected[FEATURES], atol=2e-6)


def test_levels_are_as_quoted_in_training_deviations(market: Market, make_bars: MakeBars) -> None:
    bars = make_bars()
    series = market.series(bars, series__inputs="levels")
    table = bars.set_index(ns(bars))[FEATURES]
    training = table[table.index <= end_of_training(series)]
    np.testing.assert_array_equal(series.time, table.index)
    np.testing.assert_allclose(series.inputs_NF, (table - training.mean()) / training.std(ddof=0), atol=2e-6)


def test_the_target_is_the_next_return_over_its_root_mean_square_in_training(
    market: Market, make_bars: MakeBars
) -> None:
    bars = make_bars()
    series = market.series(bars)
    returns = bars.set_index(ns(bars))["close"].pct_change()
    samples = series.samples(Split.TRAIN)
    own = returns[series.time[samples + 1]].to_numpy()
    scale = np.sqrt(np.mean(own**2))
    np.testing.assert_allclose(series.targets(samples), own / scale, rtol=1e-12)
    np.testing.assert_array_equal(series.prices(samples, np.zeros(len(samples))), series.close[samples])


@pytest.mark.parametrize("inputs", ["changes", "levels"])
def test_a_perfect_forecast_is_the_next_close_and_persistence_the_last(
    market: Market, make_bars: MakeBars, inputs: str
) -> None:
    series = market.series(make_bars(), series__inputs=inputs)
    samples = series.samples(Split.TEST)
    np.testing.assert_allclose(series.prices(samples, series.targets(samples)), series.close[samples + 1])
    np.testing.assert_allclose(series.prices(samples, series.persistence(samples)), series.close[samples])


def test_every_date_of_validation_and_test_is_a_target_once(market: Market, make_bars: MakeBars) -> None:
    bars = make_bars()
    series = market.series(bars, data__split=("2020-04-01", "2020-06-01"))
    time = bars["time"].dt.tz_localize(None)
    for split, first, last in (
        (Split.VALIDATION, "2020-04-01", "2020-05-26"),  # five bars before the test are the embargo
        (Split.TEST, "2020-06-01", "2021-01-01"),
    ):
        dates = pd.to_datetime(series.time[series.samples(split) + 1])
        assert list(dates) == list(time[(time >= first) & (time <= last)])


@pytest.mark.parametrize("inputs", ["changes", "levels"])
def test_training_samples_see_training_bars_alone_also_between_tests(
    market: Market, make_bars: MakeBars, inputs: str
) -> None:
    folds = {"kind": "combinatorial", "number": 6, "test_groups": 2}
    series = market.series(make_bars(count=240), series__inputs=inputs, data__folds=folds, data__fold=8)
    samples = series.samples(Split.TRAIN)
    assert (np.diff(samples) > 1).any()
    hidden = np.where((series.split == Split.TRAIN)[:, None], series.inputs_NF, np.float32(np.nan))
    blinded = replace(series, inputs_NF=hidden)
    assert np.isfinite(blinded.inputs(samples, Split.TRAIN, T)).all()
    assert np.isnan(blinded.inputs(series.samples(Split.TEST), Split.TEST, T)).any()


@pytest.mark.parametrize("inputs", ["changes", "levels"])
def test_no_sample_crosses_a_hole_or_a_bar_that_is_left_out(
    market: Market, make_bars: MakeBars, inputs: str
) -> None:
    bars = make_bars(count=300)
    bars.loc[150, "low"] = -1.0
    bars = bars.drop(index=[*range(60, 70), *range(100, 103)])  # ten missing days are a hole, three are not
    series = market.series(bars, series__inputs=inputs)
    present, time = list(bars.index), ns(bars)
    expected = []
    for place in range(len(present) - 1):
        # The first change of a stretch needs the bar before.
        span = present[max(place - (inputs == "changes"), 0) : place + 2]
        crosses = 150 in span or any(after - before > 6 for before, after in itertools.pairwise(span))
        is_known = inputs == "levels" or place > 0
        if is_known and not crosses and time[place + 1] <= end_of_training(series):
            expected.append(time[place])
    assert min(expected) < time[60]
    assert max(expected) > time[bars.index.get_loc(150)]
    np.testing.assert_array_equal(series.time[series.samples(Split.TRAIN)], expected)


@pytest.mark.parametrize("inputs", ["changes", "levels"])
def test_bars_after_a_day_change_nothing_up_to_it(market: Market, make_bars: MakeBars, inputs: str) -> None:
    bars = make_bars(count=260)
    plain = prepare.build(market.experiment(bars, series__inputs=inputs))
    noise = np.random.default_rng(0).uniform(0.9, 1.1, 260)
    for day in (end_of_training(plain.series), int(plain.series.time[-20])):
        later = ns(bars) > day
        changed_bars = bars.copy()
        changed_bars.loc[later, FEATURES] = bars[FEATURES].mul(noise, axis=0)[later]
        changed = prepare.build(market.experiment(changed_bars, series__inputs=inputs))
        for name in ("mean", "scale"):
            np.testing.assert_array_equal(getattr(plain.scaling, name), getattr(changed.scaling, name))
        for name in ("target_mean", "target_scale"):
            assert getattr(plain.series, name) == getattr(changed.series, name)
        for name in ARRAYS:
            before, after = getattr(plain.series, name), getattr(changed.series, name)
            is_past = plain.series.time <= day
            assert before[is_past].tobytes() == after[changed.series.time <= day].tobytes()
        assert not np.array_equal(plain.series.inputs_NF, changed.series.inputs_NF)
        targets = plain.series.samples(Split.TRAIN)
        np.testing.assert_array_equal(plain.series.targets(targets), changed.series.targets(targets))


def test_a_single_unknown_volume_is_no_change(market: Market, make_bars: MakeBars) -> None:
    bars = make_bars()
    known = market.series(bars)
    bars.loc[50, "volume"] = np.nan
    prepared = prepare.build(market.experiment(bars))
    series, scaling = prepared.series, prepared.scaling
    volume = FEATURES.index("volume")
    unchanged = np.float32(-scaling.mean[volume] / scaling.scale[volume])
    rows = np.isin(series.time, ns(bars)[50:52])
    np.testing.assert_array_equal(series.inputs_NF[rows, volume], [unchanged, unchanged])
    np.testing.assert_array_equal(series.inputs_NF[:, :volume], known.inputs_NF[:, :volume])

    level = market.series(bars, series__inputs="levels").inputs_NF[:, volume]
    assert level[50] == level[49] != level[51]


def test_a_feature_that_is_constant_in_training_has_scale_one(market: Market, make_bars: MakeBars) -> None:
    bars = make_bars()
    bars["volume"] = 1000.1
    for inputs in ("changes", "levels"):
        prepared = prepare.build(market.experiment(bars, series__inputs=inputs))
        assert prepared.scaling.scale[FEATURES.index("volume")] == 1.0
        np.testing.assert_allclose(prepared.series.inputs_NF[:, FEATURES.index("volume")], 0.0, atol=1e-9)


def test_a_change_beyond_all_likeness_is_clipped(market: Market, make_bars: MakeBars) -> None:
    bars = make_bars()
    bars.loc[190, "volume"] *= 1e9
    volume = market.series(bars).inputs_NF[:, FEATURES.index("volume")]
    assert volume.max() == 10.0
    assert volume.min() == -10.0


def test_the_run_tells_what_was_fitted_on_what(
    market: Market, make_bars: MakeBars, run_paths: RunPaths
) -> None:
    bars = make_bars()
    bars.loc[50, "low"] = -1.0
    experiment = market.experiment(bars)
    prepare.prepare(experiment, run_paths)
    series = load(run_paths)
    stats, info, assets = (
        json.loads(path.read_text())
        for path in (run_paths.norm_stats, run_paths.data_info, run_paths.asset_info)
    )
    assert stats["inputs"] == "changes"
    assert list(stats["features"]) == FEATURES
    assert stats["num_bars"] == (series.time <= end_of_training(series)).sum()
    assert stats["target"]["num_targets"] == len(series.samples(Split.TRAIN))
    assert info["num_bars"] == 200
    assert {name: found["left_out"] for name, found in info["splits"].items()} == {
        "train": 1,
        "validation": 0,
        "test": 0,
    }
    assert info["findings"]["price_not_positive"]["count"] == 1
    assert info["windows"]["test"]["targets"] == len(series.samples(Split.TEST))
    assert [asset["symbol"] for asset in assets["assets"]] == ["X"]
    assert assets["assets"][0]["num_left_out"] == 1


@pytest.mark.parametrize(
    ("changes", "message", "where", "fix"),
    [
        ({"data__symbol": None}, "data.symbol names none", "data.symbol", "there are X, Y"),
        ({"data__symbol": "Z"}, "'Z' is not an asset", "data.symbol", "X, Y"),
        ({"series__features": {"crypto": ["close"]}}, "category us_equity", "series.features",
         "`us_equity: [close]` under series.features"),
        ({"data__end": "2020-01-05"}, "times of bars are too few", "data.split", "more bars"),
        ({"data__end": "2020-01-12"}, "no two usable bars in a row", "data.split", "more bars"),
        ({"data__start": "2031-01-01"}, "no bars between", "data.start", "dates inside"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_reported(
    market: Market,
    make_bars: MakeBars,
    run_paths: RunPaths,
    changes: dict[str, Any],
    message: str,
    where: str,
    fix: str,
) -> None:
    with pytest.raises(UserError) as caught:
        prepare.prepare(market.experiment(make_bars(count=130), **changes), run_paths)
    assert message in caught.value.what
    assert caught.value.where == where
    assert fix in str(caught.value.fix)
    assert list(run_paths.root.iterdir()) == []


@pytest.mark.parametrize(("num_unknown", "is_reported"), [(200, True), (30, True), (3, False)])
def test_a_feature_that_the_bars_do_not_have_is_named(
    market: Market, make_bars: MakeBars, num_unknown: int, is_reported: bool
) -> None:
    bars = make_bars()
    bars.loc[bars.index % (200 // num_unknown) == 0, "volume"] = np.nan
    experiment = market.experiment(bars)
    if not is_reported:
        prepare.build(experiment)
        return
    with pytest.raises(UserError, match="volume of X is unknown") as caught:
        prepare.build(experiment)
    assert "take volume out of series.features.us_equity" in str(caught.value.fix)


def test_holes_that_leave_no_whole_sample_are_reported(market: Market, make_bars: MakeBars) -> None:
    bars = make_bars(count=200)
    bars.loc[bars.index % 6 == 0, "low"] = -1.0
    with pytest.raises(UserError) as caught:
        market.series(bars, series__inputs="levels")
    assert "low of X is unknown or not above 0" in caught.value.what
    bars = make_bars(count=400).query("index % 20 < 1")
    with pytest.raises(UserError, match="hold no two usable bars in a row"):
        market.series(bars)


def test_complete_bars_are_used_again_without_their_source(
    market: Market, make_bars: MakeBars, run_paths: RunPaths
) -> None:
    experiment = market.experiment(make_bars())
    prepare.prepare(experiment, run_paths)
    shutil.rmtree(market.folder)
    prepare.prepare(experiment, run_paths)


@pytest.mark.parametrize("name", ["norm_stats.json", "asset_info.json", "data_info.json"])
def test_a_file_that_is_missing_is_written_again_with_the_same_bytes(
    market: Market, make_bars: MakeBars, run_paths: RunPaths, name: str
) -> None:
    experiment = market.experiment(make_bars())
    prepare.prepare(experiment, run_paths)
    file = run_paths.root / name
    content = file.read_bytes()
    file.unlink()
    prepare.prepare(experiment, run_paths)
    assert file.read_bytes() == content


def test_other_bars_or_settings_than_the_run_began_with_are_refused(
    market: Market, make_bars: MakeBars, run_paths: RunPaths
) -> None:
    bars = make_bars()
    prepare.prepare(market.experiment(bars), run_paths)
    with pytest.raises(UserError, match="settings of data or series are not those"):
        prepare.prepare(market.experiment(bars, series__inputs="levels"), run_paths)
    prepare.prepare(market.experiment(bars, model__context_length=9), run_paths)  # which no bar depends on
    shutil.rmtree(run_paths.prepared)
    bars.loc[199, "volume"] *= 1.01
    with pytest.raises(UserError, match="bars are not those that this run began with"):
        prepare.prepare(market.experiment(bars), run_paths)


def test_a_damaged_file_is_found_and_an_unfinished_preparation_is_not_loaded(
    market: Market, make_bars: MakeBars, run_paths: RunPaths
) -> None:
    experiment = market.experiment(make_bars())
    prepare.prepare(experiment, run_paths)
    path = run_paths.prepared / "inputs_NF.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="was changed after it was prepared"):
        prepare.prepare(experiment, run_paths)
    (run_paths.prepared / store.MANIFEST).unlink()
    with pytest.raises(UserError, match="not prepared"):
        load(run_paths)
    prepare.prepare(experiment, run_paths)
    assert path.read_bytes() == content


@pytest.mark.parametrize("allowed", range(5))
def test_an_attempt_that_lost_the_run_writes_nothing_more(
    market: Market, make_bars: MakeBars, run_paths: RunPaths, allowed: int
) -> None:
    calls = iter(range(allowed))

    def check_lease() -> None:
        if next(calls, None) is None:
            raise UserError("another attempt holds this run")

    with pytest.raises(UserError, match="another attempt"):
        prepare.prepare(market.experiment(make_bars()), run_paths, check_lease=check_lease)
    files = (run_paths.norm_stats, run_paths.asset_info, run_paths.data_info)
    assert {path.name for path in run_paths.root.iterdir()} == {path.name for path in files[:allowed]}


def test_loading_needs_neither_pandas_nor_pyarrow_nor_torch() -> None:
    code = (
        "import sys; from stockpred.tasks.forecast import dataset\n"
        "print({'pandas', 'pyarrow', 'torch'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


PERSISTENCE = {  # MSE, MAE and share of up days, computed with pandas alone
    "AAPL": (5.7225, 1.7749, 0.5428),
    "TSLA": (45.694, 5.0203, 0.5187),
    "^GSPC": (1201.58, 27.163, 0.5508),
}


@pytest.mark.parametrize("symbol", PERSISTENCE)
def test_the_real_test_days_are_those_of_the_protocol(
    make_regression_experiment: MakeExperiment, real_bars: Path, symbol: str
) -> None:
    experiment = make_regression_experiment(
        CASE / "universe.csv",
        data__source="files",
        data__dir=str(real_bars),
        data__symbol=symbol,
        data__split=("2021-01-01", "2023-01-01"),
        model__context_length=20,
    )
    series = prepare.build(experiment).series
    samples = series.samples(Split.TEST)
    before, after = series.close[samples], series.close[samples + 1]
    mse, mae, up = PERSISTENCE[symbol]
    assert len(samples) == 374
    assert np.square(after - before).mean() == pytest.approx(mse, rel=1e-4)
    assert np.abs(after - before).mean() == pytest.approx(mae, rel=1e-4)
    assert (after > before).mean() == pytest.approx(up, abs=1e-4)
