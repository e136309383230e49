from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.config.next_token import NextTokenExperiment
from stockpred.data import bars as bar_table
from stockpred.data import store, universe
from stockpred.data.bars import SourceBars
from stockpred.data.prepared import read_bars
from stockpred.data.sources import synthetic
from stockpred.data.splits import USED, Split
from stockpred.tasks.next_token import dataset, prepare
from stockpred.tasks.next_token.windows import Windows

MakeExperiment = Callable[..., NextTokenExperiment]
WriteUniverse = Callable[..., Path]
ROWS = ("A,a,crypto,,,", "B,b,crypto,,,", "C,c,us_equity,,,")
CASES = Path(__file__).resolve().parents[4] / "cases"


@pytest.fixture
def experiment(make_experiment: MakeExperiment, write_universe: WriteUniverse) -> NextTokenExperiment:
    return make_experiment(write_universe(*ROWS))


@pytest.fixture
def bar_folder(experiment: NextTokenExperiment, tmp_path: Path) -> Path:
    """Write the synthetic bars to files, so that a test can change them."""
    folder = tmp_path / "bars"
    folder.mkdir()
    loaded = synthetic.load(experiment.data, universe.read(Path(experiment.data.universe)))
    for symbol, rows in loaded.bars.groupby("symbol"):
        rows.drop(columns="symbol").to_parquet(folder / f"{symbol}.parquet", index=False)
    return folder


def _from(folder: Path, experiment: NextTokenExperiment) -> NextTokenExperiment:
    data = experiment.data.model_copy(update={"source": "files", "dir": str(folder)})
    return experiment.model_copy(update={"data": data})


def test_what_is_prepared_is_what_is_loaded(experiment: NextTokenExperiment, run_paths: RunPaths) -> None:
    prepare.prepare(experiment, run_paths)
    loaded, built = dataset.load(run_paths), prepare.build(experiment).dataset
    for name in dataset.ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(built, name))
    assert loaded.assets == ("A", "B", "C")
    assert loaded.categories == ("crypto", "us_equity")
    assert loaded.tokens.dtype == np.uint16
    assert len(loaded.tokens) == loaded.segment_length.sum()


def test_bars_that_an_older_version_prepared_are_prepared_again(
    experiment: NextTokenExperiment, run_paths: RunPaths
) -> None:
    """It called the times ``day``."""
    prepare.prepare(experiment, run_paths)
    made = store.read_manifest(run_paths.prepared)
    assert made is not None
    with store.replacing(run_paths.prepared, made["made_from"], lambda: None) as folder:
        for file in run_paths.prepared.iterdir():
            if file.name != store.MANIFEST:
                (folder / file.name.replace("time.npy", "day.npy")).write_bytes(file.read_bytes())
    prepare.prepare(experiment, run_paths)
    again = store.read_manifest(run_paths.prepared)
    assert again is not None
    assert again["files"]["time.npy"] == made["files"]["time.npy"]
    dataset.load(run_paths)


def test_the_fields_agree_with_the_bars(experiment: NextTokenExperiment, run_paths: RunPaths) -> None:
    prepare.prepare(experiment, run_paths)
    loaded = dataset.load(run_paths)
    bars = pd.read_parquet(run_paths.prepared / "bars.parquet")
    close = bars.assign(symbol=bars["symbol"].astype(str)).set_index(["symbol", "time"])["close"]
    for segment in range(len(loaded.segment_start)):
        rows = slice(
            loaded.segment_start[segment], loaded.segment_start[segment] + loaded.segment_length[segment]
        )
        own = close[loaded.assets[loaded.segment_asset[segment]]]
        times = pd.to_datetime(np.asarray(loaded.time[rows]), utc=True)
        np.testing.assert_array_equal(own[times], loaded.close[rows])
        np.testing.assert_allclose(np.log(own).diff()[times], loaded.close_return[rows], rtol=1e-9)


def test_every_token_names_its_row_among_all_checked_bars(
    experiment: NextTokenExperiment, run_paths: RunPaths
) -> None:
    prepare.prepare(experiment, run_paths)
    loaded = dataset.load(run_paths)
    checked, split = read_bars(run_paths.prepared)
    np.testing.assert_array_equal(checked.columns.close[loaded.row], loaded.close)
    np.testing.assert_array_equal(checked.columns.time[loaded.row], loaded.time)
    np.testing.assert_array_equal(split[loaded.row], loaded.split)
    symbols = np.repeat(np.array(loaded.assets)[loaded.segment_asset], loaded.segment_length)
    assert list(checked.bars["symbol"].astype(str).to_numpy()[loaded.row]) == list(symbols)


def test_every_bar_is_a_token_or_counted_with_its_reason(
    bar_folder: Path, experiment: NextTokenExperiment, run_paths: RunPaths
) -> None:
    bars = pd.read_parquet(bar_folder / "A.parquet")
    bars.loc[100, ["open", "high", "low", "close"]] *= 50
    bars.loc[103, "low"] = -1.0
    bars.loc[200:, ["open", "high", "low", "close"]] *= 20
    bars.drop(index=range(150, 160)).to_parquet(bar_folder / "A.parquet", index=False)
    prepare.prepare(_from(bar_folder, experiment), run_paths)
    info = json.loads(run_paths.data_info.read_text())
    assert sum(info["not_tokens"].values()) == info["num_bars"] - info["num_tokens"]
    assert info["not_tokens"]["left_out"] == 2
    assert info["not_tokens"]["alone_between_breaks"] == 1
    assert {"spike", "price_not_positive", "hole", "unit_flip"} <= info["findings"].keys()
    assert info["is_synthetic"] is False
    found = pd.read_parquet(run_paths.prepared / "findings.parquet")
    assert found.groupby("check").size().to_dict() == {k: v["count"] for k, v in info["findings"].items()}


def test_bars_left_out_are_counted_in_the_split_that_misses_them(
    bar_folder: Path, experiment: NextTokenExperiment, run_paths: RunPaths
) -> None:
    bars = pd.read_parquet(bar_folder / "C.parquet")
    days = {"train": [100, 120, 140], "validation": [280], "test": [340, 360]}
    bars.loc[[row for rows in days.values() for row in rows], "low"] = -1.0
    bars.to_parquet(bar_folder / "C.parquet", index=False)
    prepare.prepare(_from(bar_folder, experiment), run_paths)
    info = json.loads(run_paths.data_info.read_text())
    when = bars["time"].astype(bar_table.TIME_TYPE).astype(np.int64)
    for name, rows in days.items():
        (span,) = info["fold"][name]
        assert when[rows].between(span["start"], span["end"]).all()
        assert info["splits"][name]["left_out"] == len(rows)
    assert info["findings"]["price_not_positive"]["action"] == "left out"


def test_rows_without_a_symbol_are_reported_in_the_runs_record(
    bar_folder: Path, experiment: NextTokenExperiment, run_paths: RunPaths
) -> None:
    parts = [pd.read_parquet(path).assign(symbol=path.stem) for path in sorted(bar_folder.iterdir())]
    table = pd.concat([*parts, parts[0][:2].assign(symbol="")])
    shutil.rmtree(bar_folder)
    bar_folder.mkdir()
    table.to_parquet(bar_folder / "table.parquet", index=False)
    prepare.prepare(_from(bar_folder, experiment), run_paths)
    finding = json.loads(run_paths.data_info.read_text())["findings"]["blank_symbol"]
    assert finding["count"] == 2
    assert finding["examples"][0] == {"symbol": "table.parquet", "time": None, "value": 1.0}


@pytest.mark.parametrize(("score_stride", "used"), [(None, 4), (3, 3)])
def test_scoring_windows_are_reported_as_they_are_used(
    make_experiment: MakeExperiment,
    write_universe: WriteUniverse,
    run_paths: RunPaths,
    score_stride: int | None,
    used: int,
) -> None:
    own = make_experiment(write_universe(*ROWS), data__stride=16, data__score_stride=score_stride)
    prepare.prepare(own, run_paths)
    windows = json.loads(run_paths.data_info.read_text())["windows"]
    loaded = dataset.load(run_paths)
    for split in (Split.VALIDATION, Split.TEST):
        assert windows[split.text]["windows"] == len(Windows(loaded, split, 16, used))
    assert windows["train"]["windows"] == len(Windows(loaded, Split.TRAIN, 16, 16))


@pytest.mark.parametrize("allowed", range(6))
def test_an_attempt_that_lost_the_run_writes_nothing_more(
    experiment: NextTokenExperiment, run_paths: RunPaths, allowed: int
) -> None:
    calls = iter(range(allowed))

    def check_lease() -> None:
        if next(calls, None) is None:
            raise UserError("another attempt holds this run")

    with pytest.raises(UserError, match="another attempt"):
        prepare.prepare(experiment, run_paths, check_lease=check_lease)
    files = (run_paths.norm_stats, run_paths.asset_info, run_paths.tokenizer, run_paths.data_info)
    left = {path.name for path in run_paths.root.iterdir()}
    assert left == {path.name for path in files[:allowed]}


@pytest.mark.parametrize("name", ["norm_stats.json", "prepared"])
def test_what_cannot_be_written_is_reported_with_its_file(
    experiment: NextTokenExperiment, run_paths: RunPaths, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_replace, really_rename = Path.replace, Path.rename

    def refuse(really: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def to(path: Path, target: Path) -> Path:
            if target.name == name:
                raise OSError(errno.ENOSPC, "No space left on device")
            return really(path, target)

        return to

    monkeypatch.setattr(Path, "replace", refuse(really_replace))
    monkeypatch.setattr(Path, "rename", refuse(really_rename))
    with pytest.raises(UserError, match="No space left on device") as caught:
        prepare.prepare(experiment, run_paths)
    assert caught.value.where == str(run_paths.root / name)
    assert caught.value.fix


def test_preparing_twice_reads_nothing_anew(
    bar_folder: Path, experiment: NextTokenExperiment, run_paths: RunPaths
) -> None:
    own = _from(bar_folder, experiment)
    prepare.prepare(own, run_paths)
    shutil.rmtree(bar_folder)
    prepare.prepare(own, run_paths)


def test_an_unfinished_preparation_is_done_again_to_the_same_bytes(
    experiment: NextTokenExperiment, run_paths: RunPaths
) -> None:
    prepare.prepare(experiment, run_paths)
    before = {path.name: path.read_bytes() for path in run_paths.prepared.iterdir()}
    (run_paths.prepared / store.MANIFEST).unlink()
    with pytest.raises(UserError, match="not prepared"):
        dataset.load(run_paths)
    prepare.prepare(experiment, run_paths)
    assert {path.name: path.read_bytes() for path in run_paths.prepared.iterdir()} == before


@pytest.mark.parametrize("name", ["norm_stats.json", "asset_info.json", "tokenizer.json", "data_info.json"])
def test_a_file_that_is_missing_is_written_again_with_the_same_bytes(
    experiment: NextTokenExperiment, run_paths: RunPaths, name: str
) -> None:
    prepare.prepare(experiment, run_paths)
    file = run_paths.root / name
    content = file.read_bytes()
    file.unlink()
    prepare.prepare(experiment, run_paths)
    assert file.read_bytes() == content


def test_other_bars_than_the_run_began_with_are_refused(
    bar_folder: Path, experiment: NextTokenExperiment, run_paths: RunPaths
) -> None:
    own = _from(bar_folder, experiment)
    prepare.prepare(own, run_paths)
    shutil.rmtree(run_paths.prepared)
    bars = pd.read_parquet(bar_folder / "B.parquet")
    bars.loc[len(bars) - 1, "volume"] *= 1.01
    bars.to_parquet(bar_folder / "B.parquet", index=False)
    with pytest.raises(UserError, match="not those that this run began with"):
        prepare.prepare(own, run_paths)


def test_other_settings_than_the_run_began_with_are_refused(
    experiment: NextTokenExperiment, run_paths: RunPaths
) -> None:
    prepare.prepare(experiment, run_paths)
    changed = experiment.model_copy(
        update={"tokenizer": experiment.tokenizer.model_copy(update={"vocab_size": 16})}
    )
    with pytest.raises(UserError, match="settings"):
        prepare.prepare(changed, run_paths)


def test_a_damaged_file_is_found(experiment: NextTokenExperiment, run_paths: RunPaths) -> None:
    prepare.prepare(experiment, run_paths)
    path = run_paths.prepared / "tokens.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="was changed after it was prepared") as caught:
        prepare.prepare(experiment, run_paths)
    assert "tokens.npy" in str(caught.value)


def _perturbed(loaded: SourceBars, after: int) -> SourceBars:
    bars = loaded.bars.copy()
    later = bar_table.times_ns(bars) > after
    noise = np.random.default_rng(0).uniform(0.7, 1.4, (later.sum(), 1))
    bars.loc[later, [*bar_table.PRICES, "volume"]] *= noise
    return replace(loaded, bars=bars)


def test_bars_after_training_change_neither_tokenizer_nor_training_tokens(
    experiment: NextTokenExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = prepare.build(experiment).dataset
    end = int(plain.time[plain.split == Split.TRAIN].max())
    really_load = synthetic.load
    monkeypatch.setattr(synthetic, "load", lambda *args: _perturbed(really_load(*args), end))
    changed = prepare.build(experiment).dataset
    for name in ("centroids", "log_unigram", "mean", "scale"):
        np.testing.assert_array_equal(getattr(plain.tokenizer, name), getattr(changed.tokenizer, name))
    for name in ("tokens", "volatility", "close_return", "close", "time"):
        before, after = getattr(plain, name), getattr(changed, name)
        np.testing.assert_array_equal(before[plain.time <= end], after[changed.time <= end])
    assert not np.array_equal(plain.tokens[-50:], changed.tokens[-50:])


def test_a_later_bar_changes_no_token_before_it(
    experiment: NextTokenExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = prepare.build(experiment).dataset
    middle = int(np.median(plain.time[plain.split == Split.TEST]))
    really_load = synthetic.load
    monkeypatch.setattr(synthetic, "load", lambda *args: _perturbed(really_load(*args), middle))
    changed = prepare.build(experiment).dataset
    np.testing.assert_array_equal(plain.tokens[plain.time <= middle], changed.tokens[changed.time <= middle])


def _present(loaded: SourceBars, returns: bool) -> SourceBars:
    """Let A miss days 250 to 257 and B all from day 200 on, or to day 359 where it ``returns``."""
    day = loaded.bars.groupby("symbol").cumcount()
    symbol = loaded.bars["symbol"]
    gone = ((symbol == "A") & day.between(250, 257)) | ((symbol == "B") & (day >= 200))
    if returns:
        gone &= (symbol == "A") | (day < 360)
    return replace(loaded, bars=loaded.bars[~gone].reset_index(drop=True))


def test_who_comes_back_later_changes_nothing_before(
    make_experiment: MakeExperiment, write_universe: WriteUniverse, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_experiment(write_universe("A,a,crypto,,,", "B,b,crypto,,,", "D,d,crypto,,,"))
    really_load = synthetic.load
    past = []
    for returns in (True, False):
        monkeypatch.setattr(synthetic, "load", lambda *args, _r=returns: _present(really_load(*args), _r))
        built = prepare.build(own)
        day = bar_table.times_ns(built.bars.source.bars)
        middle = np.unique(day)[340]
        assert (day[built.bars.source.bars["symbol"] == "B"] > middle).any() == returns
        made, is_past = built.dataset, built.dataset.time <= middle
        segment = np.repeat(np.arange(len(made.segment_start)), made.segment_length)
        owner = made.segment_asset[segment][is_past]
        begins = np.isin(np.arange(len(made.time)), made.segment_start)[is_past]
        breaks = built.bars.checked.break_before[day <= middle]
        past.append((owner, begins, made.tokens[is_past], made.time[is_past], breaks))
    for before, after in zip(*past, strict=True):
        np.testing.assert_array_equal(before, after)


def test_training_windows_hold_training_bars_alone(experiment: NextTokenExperiment) -> None:
    built = prepare.build(experiment).dataset
    windows = Windows(built, Split.TRAIN, 16, 4)
    spans = [np.arange(s, s + n + 1) for s, n in zip(windows.start, windows.length, strict=True)]
    assert (built.split[np.concatenate(spans)] == Split.TRAIN).all()


def test_the_context_length_moves_no_bar_of_any_split(
    make_experiment: MakeExperiment, write_universe: WriteUniverse
) -> None:
    path = write_universe(*ROWS)
    short, long = (
        prepare.build(make_experiment(path, model__context_length=length)).dataset for length in (8, 64)
    )
    for split in USED:
        np.testing.assert_array_equal(short.time[short.split == split], long.time[long.split == split])


def test_the_embargo_takes_its_bars_from_training_and_validation_alone(
    make_experiment: MakeExperiment, write_universe: WriteUniverse
) -> None:
    path = write_universe(*ROWS)
    without, with_embargo = (
        prepare.build(make_experiment(path, data__embargo=number)).dataset.split for number in (0, 7)
    )
    lost = {split: int((without == split).sum() - (with_embargo == split).sum()) for split in USED}
    assert lost == {Split.TRAIN: 7 * 3, Split.VALIDATION: 7 * 3, Split.TEST: 0}


def _late(loaded: SourceBars) -> SourceBars:
    """Let C be listed while validation goes on."""
    day = loaded.bars.groupby("symbol").cumcount()
    is_there = (loaded.bars["symbol"] != "C") | (day >= 310)
    return replace(loaded, bars=loaded.bars[is_there].reset_index(drop=True))


def test_an_asset_without_training_bars_chooses_nothing(
    experiment: NextTokenExperiment, run_paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_load = synthetic.load
    monkeypatch.setattr(synthetic, "load", lambda *args: _late(really_load(*args)))
    prepare.prepare(experiment, run_paths)
    assets = json.loads(run_paths.asset_info.read_text())["assets"]
    late = next(asset for asset in assets if asset["symbol"] == "C")["num_in_split"]
    assert late["train"] == late["validation"] == 0
    assert late["test"] > 0
    info = json.loads(run_paths.data_info.read_text())
    for name in ("train", "validation", "test"):
        counted = sum(asset["num_in_split"][name] for asset in assets)
        assert sum(info["splits"][name]["bars"].values()) == counted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer__vocab_size": 60_000}, "vocab_size 60000 is larger than"),
        ({"data__start": "2031-01-01"}, "no bars between 2031-01-01 and the end"),
        ({"data__end": "2011-01-01"}, "no bars between the beginning and 2011-01-01"),
        ({"data__end": "2020-01-03"}, "times of bars are too few"),
        ({"model__context_length": 400}, "as long as context_length 400"),
        ({"data__source": "synthetik"}, "did you mean 'synthetic'"),
        ({"data__source": "files"}, "DATA=DIR"),
        ({"data__universe": "/nowhere.csv"}, "no universe file"),
    ],
)
def test_what_cannot_be_trained_on_is_reported(
    changes: dict[str, object],
    message: str,
    make_experiment: MakeExperiment,
    write_universe: WriteUniverse,
    run_paths: RunPaths,
) -> None:
    own = make_experiment(write_universe(*ROWS), **changes)
    with pytest.raises(UserError) as caught:
        prepare.prepare(own, run_paths)
    assert message in str(caught.value)
    assert caught.value.fix or "universe" in str(caught.value)
    assert not run_paths.prepared.exists()


def test_dates_outside_start_and_end_are_not_used(
    make_experiment: MakeExperiment, write_universe: WriteUniverse
) -> None:
    own = make_experiment(write_universe(*ROWS), data__start="2020-02-01", data__end="2020-11-30")
    time = prepare.build(own).bars.source.bars["time"]
    assert time.min() == pd.Timestamp("2020-02-01", tz="UTC")
    assert time.max() == pd.Timestamp("2020-11-30", tz="UTC")


def test_loading_needs_neither_pandas_nor_pyarrow_nor_torch() -> None:
    code = (
        "import sys; from stockpred.tasks.next_token import dataset, windows\n"
        "print({'pandas', 'pyarrow', 'torch'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_real_crypto_case_is_as_hard_as_measured_before(
    make_experiment: MakeExperiment, real_bars: Path
) -> None:
    own = make_experiment(
        CASES / "crypto" / "universe.csv",
        data__source="files",
        data__dir=str(real_bars),
        tokenizer__vocab_size=1024,
        model__context_length=128,
    )
    built = prepare.build(own).dataset
    rows = built.split == Split.TEST
    assert -built.tokenizer.log_unigram[built.tokens[rows]].mean() == pytest.approx(6.753, abs=0.05)
    assert len(built.segment_start) == 20
