from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpc.base import records
from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.config.next_token import NextTokenExperiment
from stockpred.data import bars as bar_table
from stockpred.data import quality, store, universe
from stockpred.data.bars import SourceBars
from stockpred.data.export import export_npz
from stockpred.data.sources import files
from stockpred.tasks.next_token import prepare

WriteUniverse = Callable[..., Path]
MakeExperiment = Callable[..., NextTokenExperiment]
MakeBars = Callable[..., pd.DataFrame]
REPOSITORY = Path(__file__).resolve().parents[4]
DAYS = ["2024-01-02", "2024-01-03", "2024-01-04"]
SECONDS = np.array([1704153600, 1704240000, 1704326400])  # of DAYS, by `date -u +%s`
OHLCV = {
    "open": [10.0, 11, 12], "high": [12.0, 13, 14], "low": [9.0, 10, 11], "close": [11.0, 12, 13],
    "volume": [100.0, 200, 300],
}  # fmt: skip
CSV = "date,open,high,low,close,volume\n" + "".join(
    f"{day},{row[0]},{row[1]},{row[2]},{row[3]},{row[4]}\n"
    for day, row in zip(DAYS, zip(*OHLCV.values(), strict=True), strict=True)
)


def arrays(**changes: Any) -> dict[str, Any]:
    """Return the arrays of a good file, with changes; None leaves a key out."""
    whole = {"time": np.array(DAYS, "datetime64[ns]"), **{name: np.array(v) for name, v in OHLCV.items()}}
    return {name: values for name, values in (whole | changes).items() if values is not None}


def saved(content: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **options, **content)
    return buffer.getvalue()


@pytest.fixture
def load(tmp_path: Path, write_universe: WriteUniverse) -> Callable[..., SourceBars]:
    """Write files into a folder and load asset A (or those named) from it."""

    def write_and_load(contents: dict[str, bytes], *rows: str) -> SourceBars:
        for name, content in contents.items():
            path = tmp_path / "bars" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        config: Any = SimpleNamespace(dir=str(tmp_path / "bars"))
        return files.load(config, universe.read(write_universe(*(rows or ("A,Some Asset,us_equity,,,",)))))

    return write_and_load


@pytest.mark.parametrize(
    "time",
    [
        np.array(DAYS, "datetime64[ns]"),
        np.array(DAYS, "datetime64[D]"),
        np.array(DAYS, "datetime64[us]"),
        SECONDS * 10**9,
        (SECONDS * 10**9).astype(np.uint64),
        np.array(DAYS),
        np.array(DAYS, "S10"),
        np.array([f"{day}T00:00:00Z" for day in DAYS]),
    ],
    ids=["ns", "days", "us", "int64", "uint64", "text", "bytes", "ISO in UTC"],
)
def test_a_file_of_numpy_holds_the_same_bars_as_a_csv(load: Callable[..., SourceBars], time: Any) -> None:
    from_csv = load({"A.csv": CSV.encode()}).bars
    from_npz = load({"B.npz": saved(arrays(time=time))}, "B,b,us_equity,,,").bars

    pd.testing.assert_frame_equal(from_npz.drop(columns="symbol"), from_csv.drop(columns="symbol"))


def test_whole_numbers_and_float32_are_numbers(load: Callable[..., SourceBars]) -> None:
    content = arrays(close=np.array([11, 12, 13]), volume=np.array([1, 2, 3], np.float32))
    bars = load({"A.npz": saved(content)}).bars
    assert bars["close"].tolist() == [11.0, 12.0, 13.0]
    assert bars["volume"].tolist() == [1.0, 2.0, 3.0]


def test_the_symbol_inside_wins_over_the_files_name(load: Callable[..., SourceBars]) -> None:
    inside = saved(arrays(symbol=np.array("^GSPC")))
    loaded = load({"index.npz": inside, "A.npz": saved(arrays(close=np.full(3, 11.5)))}, "^GSPC,i,index,,,")
    assert loaded.bars["close"].tolist() == [11.0, 12.0, 13.0]
    assert [Path(path).name for path in loaded.origin["files"]] == ["index.npz"]


def test_prices_follow_the_adjusted_close(load: Callable[..., SourceBars]) -> None:
    bars = load({"A.npz": saved(arrays(adj_close=np.array([5.5, 6.0, 6.5])))}).bars
    np.testing.assert_allclose(bars["high"], [6.0, 6.5, 7.0])


def test_a_volume_may_be_absent(load: Callable[..., SourceBars]) -> None:
    assert load({"A.npz": saved(arrays(volume=None))}).bars["volume"].isna().all()


def test_closes_only_are_kept_by_the_checks_and_reported(load: Callable[..., SourceBars]) -> None:
    loaded = load({"A.npz": saved({name: arrays()[name] for name in ("time", "close")})})
    checked = quality.check(loaded.bars, {"A": "index"}, max_hole_sessions=5)
    assert not checked.left_out.any()
    assert checked.break_before.tolist() == [True, False, False]
    for name in ("open", "high", "low"):
        assert loaded.bars[name].tolist() == OHLCV["close"]
    (finding,) = loaded.findings.to_dict("records")
    assert (finding["check"], finding["symbol"], finding["value"]) == ("closes_only", "A", 3.0)
    assert finding["action"] == "open, high and low set to the close"


def test_candles_are_not_reported_as_closes(load: Callable[..., SourceBars]) -> None:
    assert load({"A.npz": saved(arrays())}).findings.empty


def test_an_unknown_close_is_left_out_and_reported_as_in_a_csv(load: Callable[..., SourceBars]) -> None:
    bars = load({"A.npz": saved(arrays(close=np.array([11.0, np.nan, 13.0])))}).bars
    checked = quality.check(bars, {"A": "us_equity"}, max_hole_sessions=5)
    assert checked.left_out.tolist() == [False, True, False]
    assert checked.findings["check"].tolist() == ["price_unknown"]


def test_repeated_times_are_mended_and_reported(load: Callable[..., SourceBars]) -> None:
    loaded = load({"A.npz": saved(arrays(time=np.array([DAYS[0], DAYS[1], DAYS[1]], "datetime64[D]")))})
    assert loaded.bars["close"].tolist() == [11.0, 13.0]
    assert loaded.findings["check"].tolist() == ["conflicting_duplicate"]


OBJECTS = np.array([11.0, None, 13.0], dtype=object)
WRONG = {
    "unequal lengths": (arrays(close=np.ones(2)), "differ in length: time (3,), open (3,)"),
    "two-dimensional": (arrays(close=np.ones((3, 2))), "close has shape (3, 2), expected (N,)"),
    "a scalar": (arrays(volume=np.array(3.0)), "volume has shape (), expected (N,)"),
    "no close": (arrays(close=None), "it has no close (it has high, low, open, time, volume)"),
    "no time": (arrays(time=None), "it has no time"),
    "half a candle": (arrays(high=None), "it has no high"),
    "objects": (arrays(close=OBJECTS), "close is an array of objects"),
    "objects as symbol": (arrays(symbol=np.array(None, dtype=object)), "symbol is an array of objects"),
    "no rows": ({"time": np.array([], "datetime64[ns]"), "close": np.array([])}, "its arrays are empty"),
    "no arrays": ({}, "it has no time, close (it has nothing)"),
    "text as numbers": (arrays(close=np.array(["1", "2", "x"])), "close is text, expected numbers"),
    "truth as numbers": (arrays(close=np.ones(3, bool)), "close is bool, expected numbers"),
    "time as float": (arrays(time=SECONDS * 1e9), "time is float64, expected datetime64, int64 ns or ISO"),
    "two symbols": (arrays(symbol=np.array(["A", "B"])), "symbol has shape (2,), expected ()"),
    "a blank symbol": (arrays(symbol=np.array(" ")), "symbol is empty"),
    "another word": (
        {"date": np.array(DAYS), "close": np.ones(3)},
        "key 'date' is not known: did you mean 'time'?",
    ),
    "another letter": (arrays(adjclose=np.ones(3)), "did you mean 'adj_close'?"),
    "a slip": (arrays(volume=None, volumme=np.ones(3)), "did you mean 'volume'?"),
    "no close known": (arrays(close=np.full(3, np.nan)), "no close is known"),
    "infinite": (arrays(close=np.array([1, np.inf, 1])), "row 2: 'inf' in column 'close' is not a usable"),
    "absurd": (arrays(close=np.array([1, 1, 1e30])), "row 3: '1e+30' in column 'close'"),
    "no date": (arrays(time=np.array([*DAYS[:2], "NaT"], "datetime64[D]")), "row 3: 'None' in column 'time'"),
    "no time text": (arrays(time=np.array([*DAYS[:2], "soon"])), "row 3: 'soon' in column 'time'"),
    "ambiguous": (arrays(time=np.array(["03/04/2024"] * 3)), "day and month cannot be told apart"),
    "seconds": (arrays(time=SECONDS), "time goes from 1970-01-01T00:00:01"),
    "ms": (arrays(time=SECONDS * 10**3), "time goes from 1970-01-01T00:28:24"),
    "us": (arrays(time=SECONDS * 10**6), "time goes from 1970-01-20T17:22:33"),
    "seconds as dates": (arrays(time=pd.to_datetime(SECONDS).to_numpy()), "time goes from 1970-01-01"),
    "20240102": (arrays(time=np.array([20240102, 20240103, 20240104])), "time goes from 1970-01-01"),
    "NaT as a number": (arrays(time=np.array([np.iinfo(np.int64).min + 1] * 3)), "time goes from 1677"),
    "beyond ns": (arrays(time=np.array(["3024-01-02"] * 3, "datetime64[D]")), "time[0] is 3024-01-02"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_one_error_with_the_file_and_the_fix(
    load: Callable[..., SourceBars], tmp_path: Path, fault: str
) -> None:
    content, message = WRONG[fault]
    with pytest.raises(UserError) as caught:
        load({"A.npz": saved(content)})
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "bars" / "A.npz"))
    assert caught.value.exit_code != 0
    if "row " not in message:
        assert caught.value.fix


def test_the_unit_of_time_is_named_where_it_is_wrong(load: Callable[..., SourceBars]) -> None:
    with pytest.raises(UserError) as caught:
        load({"A.npz": saved(arrays(time=SECONDS))})
    assert "int64 nanoseconds since 1970 UTC (seconds * 10**9)" in str(caught.value.fix)


WHOLE = saved(arrays())


def _corrupt() -> bytes:
    content = bytearray(saved({"time": SECONDS[0] * 10**9 + np.arange(5000), "close": np.arange(5000.0)}))
    content[len(content) // 4 : len(content) // 4 + 100] = b"\xff" * 100
    return bytes(content)


def _short_array() -> bytes:
    """Return a sound zip whose close ends before its shape says."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as whole, zipfile.ZipFile(buffer, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name)[: -8 if name == "close.npy" else None])
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (CSV.encode(), "it is not an .npz file"),
        (pickle.dumps(OHLCV), "it is not an .npz file"),
        (_npy(), "it is not an .npz file"),
        (WHOLE[: len(WHOLE) // 2], "damaged or cut short"),
        (WHOLE[:-1], "damaged or cut short"),
        (_short_array(), "damaged or cut short"),
    ],
    ids=["empty", "a CSV", "a pickle", "an npy", "half", "all but a byte", "a short array"],
)
def test_a_file_that_is_no_npz_or_not_whole_is_reported(
    load: Callable[..., SourceBars], tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load({"A.npz": content})
    assert caught.value.where == str(tmp_path / "bars" / "A.npz")
    assert caught.value.fix


def test_a_changed_byte_is_noticed(load: Callable[..., SourceBars]) -> None:
    with pytest.raises(UserError, match="damaged or cut short"):
        load({"A.npz": _corrupt()})


class Trap:
    """Leave a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("key", ["close", "symbol", "extra"])
def test_nothing_is_ever_unpickled(load: Callable[..., SourceBars], tmp_path: Path, key: str) -> None:
    mark = tmp_path / "ran"
    trap = np.array([Trap(mark)] * 3, dtype=object)
    content = saved(arrays(**{key: trap}), allow_pickle=True)
    with np.load(io.BytesIO(content), allow_pickle=True) as unsafe:
        assert len(unsafe[key]) == 3
    assert mark.exists()
    mark.unlink()

    if key == "extra":
        assert len(load({"A.npz": content}).bars) == 3
    else:
        with pytest.raises(UserError, match="unpickled"):
            load({"A.npz": content})
    assert not mark.exists()


def test_an_npz_of_something_else_is_left_aside(load: Callable[..., SourceBars]) -> None:
    loaded = load({"A.npz": saved(arrays()), "weights.npz": saved({"w": np.ones(3)}), "cut.npz": WHOLE[:99]})
    aside = {Path(path).name: why for path, why in loaded.origin["left_aside"].items()}
    assert "it has no time, close" in aside["weights.npz"]
    assert "damaged" in aside["cut.npz"]


def _export(load_from: Path, assets: Path, out: Path) -> SourceBars:
    list(export_npz(assets, str(load_from), out))
    return files.load_from(str(out), universe.read(assets))


def test_export_and_load_give_the_same_bars_to_the_bit(
    tmp_path: Path, make_bars: MakeBars, write_universe: WriteUniverse
) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    for seed, symbol in enumerate(["A", "BTC/USD", ".B", "ON"]):
        bars = make_bars(symbol, seed=seed).drop(columns="symbol")
        bars.loc[7, ["close", "volume"]] = np.nan
        bars.assign(adj_close=bars["close"] * 0.731).to_parquet(folder / f"{seed}.parquet")
    rows = [f"{symbol},x,crypto,,,{seed}" for seed, symbol in enumerate(["A", "BTC/USD", ".B", "ON"])]
    assets = write_universe(*rows)
    original = files.load_from(str(folder), universe.read(assets)).bars

    again = _export(folder, assets, tmp_path / "out").bars

    pd.testing.assert_frame_equal(again, original, check_exact=True)
    assert bar_table.digest(again) == bar_table.digest(original)


def test_bars_of_1970_and_before_1900_come_back(
    tmp_path: Path, make_bars: MakeBars, write_universe: WriteUniverse
) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    for symbol, start in (("A", "1970-01-01"), ("B", "1871-01-01")):
        make_bars(symbol, count=30, start=start).to_csv(folder / f"{symbol}.csv", index=False)
    assets = write_universe("A,x,index,,,", "B,x,index,,,")
    original = files.load_from(str(folder), universe.read(assets)).bars

    pd.testing.assert_frame_equal(_export(folder, assets, tmp_path / "out").bars, original, check_exact=True)


def test_closes_only_come_back_as_closes_only(
    tmp_path: Path, load: Callable[..., SourceBars], write_universe: WriteUniverse
) -> None:
    original = load({"A.npz": saved({name: arrays()[name] for name in ("time", "close")})})

    again = _export(tmp_path / "bars", tmp_path / "universe.csv", tmp_path / "out")

    pd.testing.assert_frame_equal(again.bars, original.bars)
    pd.testing.assert_frame_equal(again.findings, original.findings)
    with np.load(tmp_path / "out" / "A.npz") as written:
        assert sorted(written) == ["close", "symbol", "time"]


def test_what_is_exported_is_what_numpy_reads_and_pandas_holds(
    tmp_path: Path, make_bars: MakeBars, write_universe: WriteUniverse
) -> None:
    bars = make_bars("A").drop(columns="symbol")
    (tmp_path / "bars").mkdir()
    bars.to_parquet(tmp_path / "bars" / "A.parquet")
    list(export_npz(write_universe("A,x,crypto,,,"), str(tmp_path / "bars"), tmp_path / "out"))

    with np.load(tmp_path / "out" / "A.npz", allow_pickle=False) as written:
        assert sorted(written) == ["close", "high", "low", "open", "symbol", "time", "volume"]
        assert str(written["symbol"]) == "A"
        assert written["time"].dtype == np.dtype("datetime64[ns]")
        np.testing.assert_array_equal(written["time"], bars["time"].dt.tz_localize(None).to_numpy())
        for name in OHLCV:
            np.testing.assert_array_equal(written[name], bars[name].to_numpy())


def test_equal_bars_give_equal_bytes(
    tmp_path: Path, load: Callable[..., SourceBars], monkeypatch: pytest.MonkeyPatch
) -> None:
    load({"A.npz": WHOLE})
    assets, source = tmp_path / "universe.csv", str(tmp_path / "bars")
    list(export_npz(assets, source, tmp_path / "one"))
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    list(export_npz(assets, source, tmp_path / "two"))

    assert (tmp_path / "one" / "A.npz").read_bytes() == (tmp_path / "two" / "A.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "one" / "A.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_run_prepares_the_same_numbers_from_the_export(
    tmp_path: Path, make_bars: MakeBars, write_universe: WriteUniverse, make_experiment: MakeExperiment
) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    make_bars("A", count=400).drop(columns="symbol").to_csv(folder / "A.csv", index=False)
    assets = write_universe("A,x,crypto,,,")
    list(export_npz(assets, str(folder), tmp_path / "out"))

    prepared = []
    for place in (folder, tmp_path / "out"):
        paths = RunPaths(tmp_path / "runs" / place.name)
        paths.root.mkdir(parents=True)
        prepare.prepare(make_experiment(assets, data__source="files", data__dir=str(place)), paths)
        prepared.append((store.verify(paths.prepared)["sha256"], records.read_json(paths.data_info)))

    (first, first_info), (second, second_info) = prepared
    assert first == second
    assert first_info["bars_sha256"] == second_info["bars_sha256"]
    assert list(first_info["origin"]["files"]) == [str(folder / "A.csv")]
    assert list(second_info["origin"]["files"]) == [str(tmp_path / "out" / "A.npz")]


@pytest.mark.parametrize("symbol", ["^GSPC", "AAPL"])
def test_real_bars_come_back_to_the_bit(real_bars: Path, tmp_path: Path, symbol: str) -> None:
    path = REPOSITORY / "cases" / "per_stock" / "universe.csv"
    asset = universe.read(path).restricted_to(symbol)
    original = files.load_from(str(real_bars), asset).bars

    list(export_npz(path, str(real_bars), tmp_path, symbols=[symbol]))

    again = files.load_from(str(tmp_path), asset).bars
    assert len(original) > 6000
    assert bar_table.digest(again) == bar_table.digest(original)
    stored = pd.read_parquet(real_bars / "market_daily.parquet")
    own = stored[stored["asset"].astype(str) == asset.assets[0].files]
    assert len(own) == len(again)
