"""The command: what it takes and refuses, which source it chooses, and the folder that it keeps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

pytest.importorskip("requests", reason="requests: pip install 'stockpred[fetch]'")

from hpc.base import records
from hpc.base.errors import UserError
from stockpred import cli, cli_fetch
from stockpred.config import registry
from stockpred.data import universe
from stockpred.data.fetch.choice import SOURCES, source_names
from stockpred.data.sources import files
from tests.stockpred.data.fetch.conftest import Fetch, FetchAt, LocalServer
from tests.stockpred.data.fetch.klines import lines, publish

REPOSITORY = Path(__file__).resolve().parents[4]
FEBRUARY = ("--from", "2024-02-01", "--to", "2024-02-29")
NOW = pd.Timestamp("2024-03-20 10:00", tz="UTC")


def publish_february(server: LocalServer, symbol: str = "BTCUSDT") -> None:
    publish(server, "2024-02", lines("2024-02-01", range(201, 230)), symbol=symbol)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--symbols", "BTX,ETH"), r"--symbols: 'BTX' is not an asset of .*\n.*did you mean 'BTC'"),
        (("--source", "binanse"), r"--source: there is no source 'binanse'\n.*did you mean 'binance'"),
        (("--from", "2024-02-02", "--to", "2024-02-01"), r"--from: the first date lies after the last"),
        (("--from", "2999-01-01"), r"--from: the first date lies in the future"),
        (("--base-url", "data.binance.vision"), r"--base-url: 'data.binance.vision' is no address"),
    ],
)
def test_a_mistake_is_told_before_anything_is_asked(
    fetch: Fetch, server: LocalServer, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    code, said, complaint = fetch(*words)

    assert (code, said) == (2, "")
    assert re.search(told, complaint)
    assert server.asked == []
    assert not (tmp_path / "bars" / "BTC.parquet").exists()


def test_all_mistakes_are_told_at_once(fetch: Fetch) -> None:
    complaint = fetch("--source", "nowhere", "--from", "2999-01-01")[2]
    assert "--source" in complaint
    assert "--from" in complaint


@pytest.mark.parametrize("words", [("--interval", "2h"), ("--from", "yesterday"), ("--per-minute", "0")])
def test_what_no_option_takes_is_refused(fetch: Fetch, words: tuple[str, ...]) -> None:
    assert fetch(*words)[0] == 2


def test_auto_takes_binance_where_the_universe_names_both(fetch: Fetch, server: LocalServer) -> None:
    publish_february(server)
    code, said, _ = fetch(*FEBRUARY, rows="BTC,Bitcoin,crypto,BTC-USD,BTCUSDT")
    assert code == 0
    assert "(binance BTCUSDT)" in said


def test_a_mirror_needs_one_source(fetch: Fetch, server: LocalServer) -> None:
    rows = "BTC,Bitcoin,crypto,BTC-USD,BTCUSDT\nAAPL,Apple,us_equity,AAPL,"
    code, _, complaint = fetch(rows=rows)
    assert code == 2
    assert "--base-url: one address for binance and yahoo" in complaint
    assert server.asked == []


def test_a_chosen_source_without_a_symbol_there_is_named(fetch: Fetch) -> None:
    code, said, _ = fetch("--source", "binance", rows="AAPL,Apple,us_equity,AAPL,")
    assert code == 1
    assert "AAPL: failed: the universe names no symbol at binance" in said


def test_only_the_chosen_assets_are_fetched(fetch: Fetch, server: LocalServer, tmp_path: Path) -> None:
    publish_february(server, "ETHUSDT")
    rows = "BTC,Bitcoin,crypto,,BTCUSDT\nETH,Ether,crypto,,ETHUSDT"
    code, said, _ = fetch("--symbols", "ETH", *FEBRUARY, rows=rows)

    assert code == 0
    assert said.startswith("[1/1] ETH: 29 new bars")
    assert [path.name for path in (tmp_path / "bars").glob("*.parquet")] == ["ETH.parquet"]


@pytest.mark.parametrize(
    ("words", "row", "told"),
    [
        (("--interval", "1h"), "BTC,Bitcoin,crypto,,BTCUSDT", "holds 1d bars of BTCUSDT from binance"),
        (
            ("--source", "yahoo"),
            "BTC,Bitcoin,crypto,BTC-USD,BTCUSDT",
            "asked are 1d bars of BTC-USD from yahoo",
        ),
        ((), "BTC,Bitcoin,crypto,,BTCEUR", "asked are 1d bars of BTCEUR from binance"),
    ],
)
def test_bars_of_two_kinds_never_share_a_file(
    fetch: Fetch, server: LocalServer, tmp_path: Path, words: tuple[str, ...], row: str, told: str
) -> None:
    publish_february(server)
    fetch(*FEBRUARY)
    before = (tmp_path / "bars" / "BTC.parquet").read_bytes()

    code, _, complaint = fetch(*FEBRUARY, *words, rows=row)

    assert code == 2
    assert told in complaint
    assert "another folder" in complaint
    assert (tmp_path / "bars" / "BTC.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "told"), [(b"mine", "is damaged"), (None, "was not written by `stockpred data fetch`")]
)
def test_a_file_of_somebody_else_is_never_replaced(
    fetch: Fetch, server: LocalServer, tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "bars" / "BTC.parquet"
    path.parent.mkdir()
    pd.DataFrame({"close": [1.0]}).to_parquet(path)
    if content is not None:
        path.write_bytes(content)
    before = path.read_bytes()

    code, _, complaint = fetch(*FEBRUARY)

    assert code == 2
    assert told in complaint
    assert path.read_bytes() == before


def test_two_fetches_refuse_each_other(fetch: Fetch, server: LocalServer, tmp_path: Path) -> None:
    publish_february(server)
    work = tmp_path / "bars" / ".fetch"
    work.mkdir(parents=True)
    (work / "holder.json").write_text('{"pid": 4711, "host": "login1"}')
    with FileLock(work / "lock"):
        code, said, complaint = fetch(*FEBRUARY)
    assert (code, said) == (3, "")
    assert "another fetch is at work in this folder (process 4711 on login1)" in complaint
    assert server.asked == []

    assert fetch(*FEBRUARY)[0] == 0


def test_a_listing_that_was_lost_is_made_again_from_the_files(
    fetch: Fetch, server: LocalServer, tmp_path: Path
) -> None:
    publish_february(server)
    fetch(*FEBRUARY)
    listing = tmp_path / "bars" / "fetched.json"
    before = json.loads(listing.read_text())
    listing.write_text("{torn")

    assert fetch(*FEBRUARY)[0] == 0
    assert json.loads(listing.read_text()) == before


def test_the_files_that_resume_a_fetch_are_no_bars_to_training(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_february(server)
    fetch_at(NOW)
    hidden = tmp_path / "bars" / ".fetch" / "ETH.csv"
    hidden.write_text("date,open,high,low,close\n2024-01-01,1,1,1,1\n")

    eth = universe.Asset("ETH", "Ether", "crypto")
    with pytest.raises(UserError, match="has no bars for 1 of 1 assets: ETH"):
        files.load_from(str(tmp_path / "bars"), universe.Universe(Path("universe.csv"), (eth,)))


def test_ctrl_c_says_how_to_go_on(
    fetch: Fetch, server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from stockpred.data.fetch.sources.binance import Binance

    publish_february(server)
    really_verified = Binance._verified

    def interrupt(self: Binance, path: str, name: str) -> bytes | None:
        if name.endswith("2024-01.zip"):
            raise KeyboardInterrupt
        return really_verified(self, path, name)

    monkeypatch.setattr(Binance, "_verified", interrupt)
    code, said, _ = fetch("--from", "2024-01-01", "--to", "2024-02-29")
    assert code == 130
    assert "the same command goes on with what is missing" in said
    kept = [path.name for path in (tmp_path / "bars" / ".fetch").glob("*.zip")]
    assert kept == ["BTCUSDT-1d-2024-02.zip"]

    monkeypatch.undo()


def test_a_full_disk_is_told_and_leaves_no_half_file(
    fetch: Fetch, server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish_february(server)
    really_sync, really_write = os.fsync, records.write_bytes

    def fill_up(path: Path, content: bytes) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail if path.suffix == ".parquet" else really_sync)
        really_write(path, content)

    monkeypatch.setattr(records, "write_bytes", fill_up)
    code, _, complaint = fetch(*FEBRUARY)

    assert code == 2
    assert "BTC.parquet: cannot be written: No space left on device" in complaint
    assert list((tmp_path / "bars").glob("*.parquet")) == []


def test_a_terminal_shows_what_is_being_done_and_a_log_does_not(
    fetch: Fetch, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_february(server)
    publish_february(server, "ETHUSDT")
    rows = "BTC,Bitcoin,crypto,,BTCUSDT\nETH,Ether,crypto,,ETHUSDT"
    assert "\r" not in fetch(*FEBRUARY, "--symbols", "BTC", rows=rows)[1]

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    said = fetch(*FEBRUARY, rows=rows)[1]

    shown = [text.strip() for text in said.split("\r")]
    assert "[2/2] ETH: ETHUSDT-1d-2024-02.zip" in shown
    assert shown.index("[1/2] BTC") < shown.index("[2/2] ETH: ETHUSDT-1d-2024-02.zip")


@pytest.mark.parametrize("case", ["crypto", "per_stock", "reduced", "full_market"])
def test_a_case_is_known_by_its_name_from_anywhere_in_the_project(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY / "docs")
    monkeypatch.delenv("HPC_ROOT", raising=False)
    assert cli_fetch.universe_of(case) == REPOSITORY / "cases" / case / "universe.csv"


def test_a_case_is_fetched_and_then_can_be_submitted(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_february(server)
    (tmp_path / "cases" / "mini").mkdir(parents=True)
    (tmp_path / "cases" / "mini" / "config.yaml").write_text("data:\n  universe: cases/assets.csv\n")
    (tmp_path / "cases" / "assets.csv").write_text("symbol,name,category,binance\nBTC,B,crypto,BTCUSDT\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPC_ROOT", raising=False)
    words = ["mini", "--out", "bars", *FEBRUARY, "--base-url", server.url]
    monkeypatch.setattr(sys, "argv", ["stockpred", "data", "fetch", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == "next: make submit CASE=mini DATA=bars"
    assets = universe.read(tmp_path / "cases" / "assets.csv")
    assert files.load_from("bars", assets).bars["close"].tolist() == list(range(201, 230))


def test_a_case_that_does_not_exist_is_told_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(UserError) as told:
        cli_fetch.universe_of("cripto")
    assert told.value.fix == "did you mean 'crypto'?"


def test_the_cases_that_the_documents_fetch_name_each_asset_at_a_source() -> None:
    nowhere = {
        asset.symbol
        for case in ("crypto", "per_stock")
        for asset in universe.read(REPOSITORY / "cases" / case / "universe.csv").assets
        if not (asset.yahoo or asset.binance)
    }
    assert nowhere == set()


@pytest.mark.parametrize("name", source_names())
def test_each_source_declares_what_the_command_reads(name: str) -> None:
    declared = {
        key: registry.declared(SOURCES, name, key) for key in ("INTERVALS", "PER_MINUTE", "AUTO_RANK")
    }
    assert set(declared["INTERVALS"]) <= {"1d", "1h", "1m"}
    assert declared["PER_MINUTE"] > 0
    assert isinstance(declared["AUTO_RANK"], int)
    assert registry.declared(SOURCES, name, "BASE_URL").startswith("https://")
    assert name in universe.COLUMNS


def test_the_help_names_the_ways_to_call_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stockpred", "data", "fetch", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert (
        "stockpred data fetch crypto --interval 1m --source binance --out minute_bars"
        in capsys.readouterr().out
    )


def test_the_command_line_needs_no_library_for_fetching_to_start() -> None:
    blocked = "import sys; sys.modules.update(yfinance=None, requests=None, curl_cffi=None); "
    start = "import stockpred.cli; from stockpred.data.fetch import choice, run; print(choice.source_names())"
    done = subprocess.run(
        [sys.executable, "-c", blocked + start], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "('binance', 'yahoo')"


def documented_commands() -> list[list[str]]:
    """Return the words of each `stockpred data fetch` in the documents."""
    texts = [(REPOSITORY / name).read_text() for name in ("README.md", "cases/README.md")]
    found = re.findall(r"^stockpred data fetch ([^#\n]+)", "\n".join(texts), re.MULTILINE)
    return [command.split() for command in found]


@pytest.mark.parametrize("words", documented_commands(), ids=" ".join)
def test_the_documented_commands_are_understood(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    values = cli_fetch.fetch.make_context("fetch", list(words)).params
    assets = universe.read(cli_fetch.universe_of(values["case"]))

    assert assets.only((values["symbols"] or "").replace(",", " ").split(), where="--symbols").assets
    assert values["interval"] in ("1d", "1h", "1m")
