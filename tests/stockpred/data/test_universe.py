from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.base.errors import UserError
from stockpred.data import universe

WriteUniverse = Callable[..., Path]
CASES = Path(__file__).resolve().parents[3] / "cases"


def test_tickers_stay_text(write_universe: WriteUniverse) -> None:
    tickers = ("ON", "NO", "TRUE", "000660", "NaN", "NA", "1e5", "null")
    read = universe.read(write_universe(*(f"{ticker},name,us_equity,,," for ticker in tickers)))
    assert read.symbols == tickers


def test_every_mistake_is_reported_with_its_line(write_universe: WriteUniverse) -> None:
    path = write_universe("A,a,crypto,,,", "A,b,crypto,,,", ",c,crypto,,,", "D,d,Big Cap,,,", "E,e")
    with pytest.raises(UserError) as caught:
        universe.read(path)
    for line in (3, 4, 5, 6):
        assert f"{path}:{line}:" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("symbol,name,category\n", "no assets"),
        ("symbol,name,categry\nA,a,crypto\n", "did you mean 'category'"),
        ("symbol,name,category,symbol\nA,a,crypto,B\n", "stands twice"),
        ("symbol,name,category\nA,\xff\x00,crypto\n", "not a CSV"),
    ],
)
def test_a_file_that_is_no_universe_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "universe.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        universe.read(path)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no universe file"):
        universe.read(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("case", "sizes"),
    [
        ("full_market", {"us_equity": 300, "eu_equity": 150, "em_equity": 50, "commodity": 30, "crypto": 70}),
        ("reduced", {"us_equity": 50, "crypto": 20, "commodity": 15, "em_equity": 15}),
        ("crypto", {"crypto": 20}),
        ("per_stock", {"us_equity": 7, "index": 1}),
    ],
)
def test_each_case_has_the_assets_that_it_promises(case: str, sizes: dict[str, int]) -> None:
    read = universe.read(CASES / case / "universe.csv")
    assert {c: sum(a.category == c for a in read.assets) for c in read.categories} == sizes


def test_the_cases_name_the_assets_of_the_real_bars(real_bars: Path) -> None:
    names = {"full": "full_market", "reduced": "reduced", "crypto": "crypto", "stocks": "per_stock"}
    with (real_bars / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for listed, case in names.items():
        own = {(asset.files, asset.category) for asset in universe.read(CASES / case / "universe.csv").assets}
        assert own == {(row["asset"], row["category"]) for row in rows if row["case"] == listed}
