"""``stockpred data export``: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stockpred import cli

Export = Callable[..., tuple[int, str, str]]
DAYS = pd.date_range("2024-01-01", periods=40)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a folder with a universe of three assets and a CSV of bars for two of them."""
    rows = ["symbol,name,category,yahoo,binance,files", "AAPL,a,us_equity,,,"]
    rows += ["^GSPC,g,index,,,index_file", "XOM,x,us_equity,,,"]
    (tmp_path / "universe.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "bars").mkdir()
    for seed, name in enumerate(["AAPL", "index_file"]):
        close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, len(DAYS))))
        bars = {"date": DAYS, "open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
        pd.DataFrame(bars | {"adj_close": close / 2, "volume": 5}).to_csv(
            tmp_path / "bars" / f"{name}.csv", index=False
        )
    return tmp_path


@pytest.fixture
def export(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Export:
    """Run the command in the workspace; return its exit code, and what it said and complained of."""
    monkeypatch.chdir(workspace)

    def run(*words: str, data: str = "bars", out: str = "out") -> tuple[int, str, str]:
        command = ["stockpred", "data", "export", "universe.csv", "--data", data, "--npz", out, *words]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def written(workspace: Path) -> list[str]:
    return sorted(path.name for path in (workspace / "out").rglob("*"))


BOTH = ("--symbol", "AAPL", "--symbol", "^GSPC")


def test_it_writes_one_file_per_asset_and_says_each(export: Export, workspace: Path) -> None:
    code, said, complaint = export(*BOTH)

    assert (code, complaint) == (0, "")
    assert said.splitlines() == [
        "AAPL.npz: 40 bars, 2024-01-01 to 2024-02-09",
        "^GSPC.npz: 40 bars, 2024-01-01 to 2024-02-09",
        "2 files in out, 80 bars",
    ]
    assert written(workspace) == ["AAPL.npz", "^GSPC.npz"]
    source = pd.read_csv(workspace / "bars" / "index_file.csv")
    with np.load(workspace / "out" / "^GSPC.npz") as arrays:
        assert str(arrays["symbol"]) == "^GSPC"
        np.testing.assert_allclose(arrays["close"], source["adj_close"], rtol=1e-15)
        np.testing.assert_allclose(arrays["high"], source["high"] / 2, rtol=1e-15)


def test_what_was_mended_on_the_way_is_said(export: Export, workspace: Path) -> None:
    with (workspace / "bars" / "AAPL.csv").open("a") as file:
        file.write((workspace / "bars" / "AAPL.csv").read_text().splitlines()[-1] + "\n")

    said = export("--symbol", "AAPL")[1]

    assert said.splitlines()[0] == "AAPL.npz: 40 bars, 2024-01-01 to 2024-02-09; mended: 1 duplicate"


def test_a_file_that_is_there_is_only_replaced_by_force(export: Export, workspace: Path) -> None:
    export("--symbol", "AAPL")
    (workspace / "out" / "AAPL.npz").write_text("mine")

    code, said, complaint = export(*BOTH)
    assert (code, said) == (2, "")
    assert "out: 1 file would be replaced: AAPL.npz" in complaint
    assert "--force" in complaint
    assert written(workspace) == ["AAPL.npz"]
    assert (workspace / "out" / "AAPL.npz").read_text() == "mine"

    assert export(*BOTH, "--force")[0] == 0
    with np.load(workspace / "out" / "AAPL.npz") as arrays:
        assert len(arrays["close"]) == 40


@pytest.mark.parametrize(
    ("words", "data", "told"),
    [
        (("--symbol", "APPL"), "bars", r"--symbol: 'APPL' is not an asset of .*\n.*did you mean 'AAPL'"),
        ((), "bars", r"--data: .*has no bars for 1 of 3 assets: XOM"),
        ((), "nowhere", r"--data: there is no folder or file nowhere"),
        (BOTH, "universe.csv", r"universe.csv: holds no bars: it has no column for time"),
    ],
)
def test_a_mistake_is_one_error_and_nothing_is_written(
    export: Export, workspace: Path, words: tuple[str, ...], data: str, told: str
) -> None:
    code, said, complaint = export(*words, data=data)

    assert (code, said) == (2, "")
    assert re.search(told, complaint)
    assert complaint.count("error:") == 1
    assert "fix:" in complaint
    assert not (workspace / "out").exists()


def test_all_unknown_symbols_are_told_at_once(export: Export) -> None:
    complaint = export("--symbol", "APPL", "--symbol", "XON")[2]
    assert "'APPL'" in complaint
    assert "'XON'" in complaint


def test_a_broken_npz_is_told_with_its_shape(export: Export, workspace: Path) -> None:
    time = DAYS.to_numpy()
    np.savez(workspace / "bars" / "XOM.npz", time=time, close=np.ones((len(time), 2)))

    code, said, complaint = export()

    assert (code, said) == (2, "")
    assert re.search(r"XOM\.npz: holds no bars: close has shape \(40, 2\), expected \(N,\)", complaint)
    assert not (workspace / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_told(export: Export, workspace: Path) -> None:
    (workspace / "out").write_text("mine")
    code, _, complaint = export("--symbol", "AAPL")
    assert code == 2
    assert "out: is a file, not a folder" in complaint
    assert (workspace / "out").read_text() == "mine"


def test_a_folder_that_may_not_be_written_is_told(
    export: Export, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open = Path.open

    def refuse_writing(path: Path, mode: str = "r", **options: Any) -> Any:
        if "w" in mode:
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, mode, **options)

    monkeypatch.setattr(Path, "open", refuse_writing)
    code, said, complaint = export("--symbol", "AAPL")
    assert (code, said) == (2, "")
    assert "AAPL.npz: cannot be written: Permission denied" in complaint
    assert written(workspace) == []


def test_a_full_disk_leaves_no_half_file(
    export: Export, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_sync, calls = os.fsync, []

    def fill_up(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 2:  # the first file and its folder
            raise OSError(28, "No space left on device")
        really_sync(descriptor)

    monkeypatch.setattr(os, "fsync", fill_up)
    code, said, complaint = export(*BOTH)

    assert code == 2
    assert said.startswith("AAPL.npz: 40 bars")
    assert "^GSPC.npz: cannot be written: No space left on device" in complaint
    assert written(workspace) == ["AAPL.npz"]


def test_what_was_exported_can_be_exported_again_byte_for_byte(export: Export, workspace: Path) -> None:
    export(*BOTH)
    export(*BOTH, data="out", out="again")

    for path in (workspace / "out").iterdir():
        assert path.read_bytes() == (workspace / "again" / path.name).read_bytes()
