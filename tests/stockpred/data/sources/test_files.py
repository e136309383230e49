from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpc.base.errors import UserError
from stockpred.data import bars as bar_table
from stockpred.data import universe
from stockpred.data.bars import SourceBars
from stockpred.data.sources import files

WriteUniverse = Callable[..., Path]
CASES = Path(__file__).resolve().parents[4] / "cases"
PLAIN = "Date,Open,High,Low,Close,Volume\n2024-01-02,10,12,9,11,100\n2024-01-03,11,13,10,12,200\n"


@pytest.fixture
def load(tmp_path: Path, write_universe: WriteUniverse) -> Callable[..., SourceBars]:
    """Write files into a folder and load asset A (or those named) from it."""

    def write_and_load(contents: dict[str, str | bytes], *rows: str, only: str | None = None) -> SourceBars:
        folder = tmp_path / "bars"
        folder.mkdir(exist_ok=True)
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        assets = universe.read(write_universe(*(rows or ("A,Some Asset,us_equity,,,",))))
        return files.load(_config(folder / only if only else folder), assets)

    return write_and_load


def _config(folder: Path | None) -> Any:
    return SimpleNamespace(dir=None if folder is None else str(folder))


def _dates(loaded: SourceBars) -> list[str]:
    return list(loaded.bars["time"].dt.strftime("%Y-%m-%d %H:%M"))


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "\ufeff" + PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        "Date,Open,High,Low,Close,Volume\n2024-01-03,11,13,10,12,200\n2024-01-02,10,12,9,11,100\n",
        "date;open;high;low;price;vol\n02-01-2024;10,0;12,0;9,0;11,0;100\n\n"
        "03-01-2024;11,0;13,0;10,0;12,0;200\n",
        "timestamp,o,h,l,c,v\n1704153600000,10,12,9,11,100\n1704240000000,11,13,10,12,200\n",
        "ts,open,high,low,close,volume\n1704153600,10,12,9,11,100\n1704240000,11,13,10,12,200\n",
        "Date,Open,High,Low,Close,Volume\n20240102,10,12,9,11,100\n20240103,11,13,10,12,200\n",
        "Date,Open,High,Low,Close,Volume\n2024-01-02 00:00:00-05:00,10,12,9,11,100\n"
        "2024-01-03 00:00:00-05:00,11,13,10,12,200\n",
        'Date,Open,High,Low,Close/Last,Volume\n"Jan 02, 2024",10,12,9,11,100\n'
        '"Jan 03, 2024",11,13,10,12,200\n',
        "Price,Close,High,Low,Open,Volume\nTicker,A,A,A,A,A\nDate,,,,,\n"
        "2024-01-02,11,12,9,10,100\n2024-01-03,12,13,10,11,200\n",
        "Price,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\nTicker,B,A,B,A,B,A,B,A,B,A\n"
        "Date,,,,,,,,,,\n"
        "2024-01-02,1,11,1,12,1,9,1,10,1,100\n2024-01-03,1,12,1,13,1,10,1,11,1,200\n",
        "Ticker,Date,Open,High,Low,Close,Volume\nA,2024-01-02,10,12,9,11,100\nB,2024-01-02,1,1,1,1,1\n"
        "A,2024-01-03,11,13,10,12,200\n",
    ],
)
def test_many_ways_of_writing_mean_the_same_bars(load: Callable[..., SourceBars], content: str) -> None:
    loaded = load({"A.csv": content})
    assert list(loaded.bars.columns) == list(bar_table.COLUMNS)
    assert _dates(loaded) == ["2024-01-02 00:00", "2024-01-03 00:00"]
    expected = [[10, 12, 9, 11, 100], [11, 13, 10, 12, 200]]
    np.testing.assert_array_equal(loaded.bars[["open", "high", "low", "close", "volume"]], expected)


def test_month_first_dates_and_thousands_are_understood(load: Callable[..., SourceBars]) -> None:
    content = (
        'Date,Open,High,Low,Close,Volume\n01/30/2024,"1,000.5",1200,900,"1,100",-\n01/31/2024,1,1,1,1,""\n'
    )
    loaded = load({"A.csv": content})
    assert _dates(loaded) == ["2024-01-30 00:00", "2024-01-31 00:00"]
    assert loaded.bars["open"].tolist() == [1000.5, 1.0]
    assert loaded.bars["volume"].isna().all()


def test_intraday_times_become_utc(load: Callable[..., SourceBars]) -> None:
    rows = "\n".join(f"2024-01-02 09:{minute}:00-05:00,1,1,1,1,1" for minute in (30, 31, 32))
    assert _dates(load({"A.csv": f"Datetime,Open,High,Low,Close,Volume\n{rows}\n"}))[0] == "2024-01-02 14:30"


@pytest.mark.parametrize("name", ["A.parquet", "table.parquet", "A.csv.gz"])
def test_parquet_and_gzip_are_read(load: Callable[..., SourceBars], tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame(
        {"date": pd.to_datetime(["2024-01-02", "2024-01-03"]), "open": [10.0, 11], "high": [12.0, 13]}
        | {"low": [9.0, 10], "close": [11.0, 12], "volume": [100, 200]}
    )
    made = tmp_path / "made"
    if name.endswith(".gz"):
        made.write_bytes(gzip.compress(PLAIN.encode()))
    elif name == "A.parquet":
        frame.set_index("date").to_parquet(made)
    else:
        frame.assign(asset=pd.Categorical(["A", "A"])).to_parquet(made)
    assert load({name: made.read_bytes()}).bars["close"].tolist() == [11.0, 12.0]


def test_other_files_are_left_aside_and_listed(load: Callable[..., SourceBars]) -> None:
    loaded = load(
        {
            "A.csv": PLAIN, "B.csv": PLAIN, "notes.md": "hi", "cases.csv": "asset,case\nA,full\n",
            "void.csv": "",
            "bad.parquet": "no", ".hidden.csv": "x", "binary.csv": b"\xff\xfe\x00",
        }
    )  # fmt: skip
    aside = {Path(path).name: why for path, why in loaded.origin["left_aside"].items()}
    assert aside.keys() == {"B.csv", "notes.md", "cases.csv", "void.csv", "bad.parquet", "binary.csv"}
    assert "neither CSV nor Parquet" in aside["notes.md"]
    assert "empty" in aside["void.csv"]
    assert [Path(path).name for path in loaded.origin["files"]] == ["A.csv"]


def test_the_files_name_wins_over_the_symbol_and_the_fuller_table_over_the_smaller(
    load: Callable[..., SourceBars],
) -> None:
    long = "symbol,date,open,high,low,close,volume\nAUSD,2024-01-02,5,5,5,5,5\nB,2024-01-02,6,6,6,6,6\n"
    loaded = load(
        {"A.csv": PLAIN, "AUSD.csv": PLAIN, "table.csv": long}, "A,a,crypto,,,AUSD", "B,b,crypto,,,"
    )
    assert loaded.bars["close"].tolist() == [5.0, 6.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PLAIN + "2024-01-04,1,2,x,2,3\n", ":4: 'x' in column 'Low' is not a usable number"),
        (PLAIN + "\n2024-01-04,1,2,1.2.3,2,3\n", ":5: '1.2.3'"),
        (PLAIN + "yesterday,1,2,1,2,3\n", ":4: 'yesterday' in column 'Date' is not a date"),
        (PLAIN + "2024-01-04,1,2\n", ":4: 3 cells, the header has 6"),
        (PLAIN + "2024-01-04,1,2,1,2,3,4,5\n", ":4: 8 cells"),
        (PLAIN + "2024-01-04,1e400,2,1,2,3\n", ":4: '1e400'"),
        (PLAIN + "2024-01-04,1e30,2,1,2,3\n", ":4: '1e30'"),
        ("Date,Open,High,Low,Close\n03/04/2024,1,1,1,1\n04/04/2024,1,1,1,1\n", "cannot be told apart"),
        ("", "it is empty"),
        ("Date,Open,High,Low,Close,Volume\n", "no rows"),
        ("Date,Open,High\n2024-01-02,1,2\n", "no column for low, close"),
    ],
)
def test_what_cannot_be_read_is_reported_with_file_and_line(
    load: Callable[..., SourceBars], content: str, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        load({"A.csv": content})
    assert "A.csv" in str(caught.value)
    assert message in str(caught.value)


MANY = PLAIN[: PLAIN.index("\n") + 1] + "".join(
    f"{day:%Y-%m-%d},{n % 89 + 10},{n % 89 + 12},{n % 89 + 9},{n % 89 + 11},{n * 7919 % 10007}\n"
    for n, day in enumerate(pd.date_range("1990-01-01", periods=5000))
)


def _truncated_gzip() -> bytes:
    whole = gzip.compress(MANY.encode(), mtime=0)
    return whole[: len(whole) // 2]


def _broken_gzip() -> bytes:
    whole = bytearray(gzip.compress(MANY.encode(), mtime=0))
    whole[len(whole) // 2 : len(whole) // 2 + 50] = b"\xff" * 50
    return bytes(whole)


def _latin_text() -> bytes:
    return (MANY + "2024-01-04,10,12,9,\xe9,100\n").encode("latin-1")


def _broken_parquet(is_long: bool = False) -> bytes:
    buffer = io.BytesIO()
    frame = pd.read_csv(io.StringIO(MANY))
    (frame.assign(symbol="A") if is_long else frame).to_parquet(buffer)
    whole = bytearray(buffer.getvalue())
    whole[100 : len(whole) // 2] = bytes(len(whole) // 2 - 100)
    return bytes(whole)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("A.csv.gz", _truncated_gzip()),
        ("A.csv.gz", _truncated_gzip()[:30]),
        ("A.csv.gz", _broken_gzip()),
        ("A.csv", _latin_text()),
        ("A.parquet", _broken_parquet()),
        ("A.parquet", _broken_parquet(is_long=True)),
    ],
    ids=[
        "cut gzip",
        "gzip cut in its head",
        "broken gzip",
        "not UTF-8",
        "broken Parquet",
        "broken long Parquet",
    ],
)
def test_a_damaged_file_is_reported_with_its_path(
    load: Callable[..., SourceBars], tmp_path: Path, name: str, content: bytes
) -> None:
    with pytest.raises(UserError, match="cannot be read") as caught:
        load({name: content})
    assert caught.value.where == str(tmp_path / "bars" / name)
    assert caught.value.fix


RAGGED = "symbol,date,open,high,low,close,volume\nB,2024-01-02,6,6,6,6,6\nB,2024-01-03,6,6\n"


def test_a_ragged_table_that_nobody_needs_is_left_aside(load: Callable[..., SourceBars]) -> None:
    loaded = load({"A.csv": PLAIN, "table.csv": RAGGED})
    assert [Path(path).name for path in loaded.origin["left_aside"]] == ["table.csv"]


def test_a_ragged_table_that_is_needed_is_refused_with_its_line(load: Callable[..., SourceBars]) -> None:
    with pytest.raises(UserError, match=r"table.csv:3: 4 cells, the header has 7"):
        load({"table.csv": RAGGED}, "B,b,crypto,,,")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_without_a_symbol_are_reported(load: Callable[..., SourceBars], kind: str) -> None:
    text = (
        "symbol,date,open,high,low,close,volume\nA,2024-01-02,6,6,6,6,6\n,2024-01-02,7,7,7,7,7\n"
        "A,2024-01-03,6,6,6,6,6\n  ,2024-01-03,7,7,7,7,7\n,,,,,,\n"
    )
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(text)).to_parquet(buffer)
    loaded = load({f"table.{kind}": text if kind == "csv" else buffer.getvalue()})
    assert loaded.bars["close"].tolist() == [6.0, 6.0]
    assert loaded.findings["check"].tolist() == ["blank_symbol"] * 3
    assert set(loaded.findings["symbol"]) == {f"table.{kind}"}


def test_missing_assets_are_named_with_the_folder(load: Callable[..., SourceBars], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no bars for 2 of 3 assets: B, C") as caught:
        load({"A.csv": PLAIN}, "A,a,crypto,,,", "B,b,crypto,,,", "C,c,crypto,,,")
    assert str(tmp_path / "bars") in str(caught.value)


@pytest.mark.parametrize("folder", [None, "/nowhere/at/all"])
def test_without_a_folder_it_says_how_to_get_bars(folder: str | None, write_universe: WriteUniverse) -> None:
    assets = universe.read(write_universe("A,a,crypto,,,"))
    with pytest.raises(UserError) as caught:
        files.load(_config(Path(folder) if folder else None), assets)
    assert "DATA=DIR" in str(caught.value)
    assert "data.source=synthetic" in str(caught.value)
    assert "one CSV per symbol (date, open, high, low, close, volume)" in str(caught.value)
    assert "`files` or `yahoo`" in str(caught.value)


def test_daily_and_minute_bars_are_not_mixed(load: Callable[..., SourceBars]) -> None:
    minute = "ts,open,high,low,close\n" + "".join(f"2024-01-02 09:3{n}:00,1,1,1,1\n" for n in range(5))
    with pytest.raises(UserError, match="different length"):
        load({"A.csv": PLAIN, "B.csv": minute}, "A,a,crypto,,,", "B,b,crypto,,,")


def test_two_assets_cannot_share_a_series(load: Callable[..., SourceBars]) -> None:
    with pytest.raises(UserError, match="would both read"):
        load({"A.csv": PLAIN}, "A,a,crypto,,,", "B,b,crypto,,,A")


def test_two_series_under_one_symbol_are_refused(load: Callable[..., SourceBars]) -> None:
    rows = [f"A,2024-01-{day:02d},{p},{p},{p},{p},1" for day in range(1, 20) for p in (1, 50)]
    with pytest.raises(UserError, match="many different bars at the same time"):
        load({"t.csv": "\n".join(["symbol,date,open,high,low,close,volume", *rows]) + "\n"})


def test_repeats_and_disorder_are_mended_and_reported(load: Callable[..., SourceBars]) -> None:
    extra = "2024-01-01,9,9,9,9,9\n2024-01-03,11,13,10,12,200\n2024-01-02,10,12,9,11.5,100\n"
    loaded = load({"A.csv": PLAIN + extra})
    assert loaded.bars["close"].tolist() == [9.0, 11.5, 12.0]
    assert loaded.findings["check"].tolist() == ["conflicting_duplicate", "duplicate", "out_of_order"]


def test_all_prices_follow_the_adjusted_close(load: Callable[..., SourceBars]) -> None:
    content = (
        "Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-02,10,12,9,11,5.5,1\n"
        "2024-01-03,11,13,10,12,,1\n2024-01-04,11,13,10,12,12,1\n2024-01-05,-1,2,-40,-37.63,-37.63,1\n"
    )
    bars = load({"A.csv": content}).bars
    np.testing.assert_allclose(bars["close"][:3], [5.5, 6, 12 * 0.5])  # a jump by 2 alone is undone
    np.testing.assert_allclose(bars["high"][:2], [6, 6.5])
    assert (bars["close"] / bars["low"]).iloc[3] == pytest.approx(37.63 / 40)


def test_no_permission_is_reported(load: Callable[..., SourceBars], monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = Path.open

    def refuse_reading(path: Path, mode: str = "r", **options: Any) -> Any:
        if path.name == "A.csv" and "w" not in mode:
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, mode, **options)

    monkeypatch.setattr(Path, "open", refuse_reading)
    with pytest.raises(UserError, match="no permission"):
        load({"A.csv": PLAIN})


@pytest.mark.parametrize(
    ("case", "num_bars"), [("full_market", 2_714_691), ("crypto", 21_334), ("per_stock", 64_729)]
)
def test_the_real_bars_of_each_case_are_all_loaded(case: str, num_bars: int, real_bars: Path) -> None:
    assets = universe.read(CASES / case / "universe.csv")
    loaded = files.load(_config(real_bars), assets)
    assert len(loaded.bars) == num_bars
    assert set(loaded.bars["symbol"]) == set(assets.symbols)
    listed = pd.read_csv(real_bars / "cases.csv", dtype=str, keep_default_na=False).drop_duplicates("asset")
    rows = {asset.symbol: asset.files for asset in assets.assets}
    expected = listed.set_index("asset")["rows"].astype(int)
    counts = loaded.bars.groupby("symbol").size()
    assert all(abs(count - expected[rows[str(symbol)]]) <= 2 for symbol, count in counts.items())
