"""Binance's archives, fetched from a server on this machine that has the published layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("requests", reason="requests: pip install 'stockpred[fetch]'")

from stockpred.data.sources import files
from stockpred.data.universe import Asset, Universe
from tests.stockpred.data.fetch.conftest import Fetch, FetchAt, LocalServer, Page
from tests.stockpred.data.fetch.klines import checksum, lines, path_of, publish, zipped

NOW = pd.Timestamp("2024-03-20 10:00", tz="UTC")
JANUARY, FEBRUARY = list(range(101, 132)), list(range(201, 230))


def days(first: str, last: str) -> list[pd.Timestamp]:
    return list(pd.date_range(first, last, tz="UTC"))


def bars_in(folder: Path, symbol: str = "BTC") -> pd.DataFrame:
    return pd.read_parquet(folder / "bars" / f"{symbol}.parquet")


def publish_two_months_and_days(server: LocalServer, num_days: int = 19) -> None:
    """Publish January and February 2024, and the first days of March, one file a day."""
    publish(server, "2024-01", lines("2024-01-01", JANUARY))
    publish(server, "2024-02", lines("2024-02-01", FEBRUARY))
    publish_days(server, range(1, num_days + 1))


def publish_days(server: LocalServer, numbers: Sequence[int]) -> None:
    for day in numbers:
        publish(server, f"2024-03-{day:02d}", lines(f"2024-03-{day:02d}", [300 + day]))


def asked_archives(server: LocalServer) -> list[str]:
    """Return the labels of the archives that were asked for, without the checksums."""
    names = [path.rpartition("/")[2] for path in server.asked if path.endswith(".zip")]
    return [name.removesuffix(".zip").partition("-1d-")[2] for name in names]


def test_months_and_the_days_since_become_one_file(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_two_months_and_days(server)
    (result,) = fetch_at(NOW)

    bars = bars_in(tmp_path)
    assert result.failure is None
    assert bars["time"].tolist() == days("2024-01-01", "2024-03-19")
    assert bars["close"].tolist() == [*JANUARY, *FEBRUARY, *range(301, 320)]
    assert set(bars["symbol"]) == {"BTC"}
    assert str(result) == ("[1/1] BTC: 79 new bars, 79 bars, 2024-01-01 to 2024-03-19 (binance BTCUSDT)")


def test_the_listing_says_where_each_file_comes_from(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_two_months_and_days(server)
    fetch_at(NOW)

    row = json.loads((tmp_path / "bars" / "fetched.json").read_text())["assets"]["BTC"]
    file = tmp_path / "bars" / "BTC.parquet"
    assert row["sha256"] == checksum(file.read_bytes(), "x").split()[0].decode()
    assert (row["source"], row["symbol_there"], row["interval"]) == ("binance", "BTCUSDT", "1d")
    assert (row["first"][:10], row["last"][:10], row["rows"]) == ("2024-01-01", "2024-03-19", 79)
    assert row["retrieved"] == "2024-03-20T10:00:00+00:00"
    assert row["library"].startswith("requests ")


def test_real_bars_come_through_unchanged(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path, real_bars: Path
) -> None:
    columns = ["asset", "date", "open", "high", "low", "close", "volume"]
    rows = pd.read_parquet(
        real_bars / "market_daily.parquet", columns=columns, filters=[("category", "==", "crypto")]
    )
    names = rows["asset"].value_counts().index[:2]
    for name in names:
        own = rows[rows["asset"] == name].assign(date=lambda own: pd.to_datetime(own["date"], utc=True))
        for month, part in own.groupby(own["date"].dt.strftime("%Y-%m")):
            unit = 10**6 if month > "2024" else 10**3
            lines_of_month = [
                f"{int(bar.date.timestamp()) * unit},{bar.open!r},{bar.high!r},{bar.low!r},{bar.close!r},"
                f"{bar.volume!r},{int(bar.date.timestamp() + 86400) * unit - 1},0,0,0,0,0"
                for bar in part.itertuples()
            ]
            publish(server, month, lines_of_month, symbol=name)
    results = fetch_at(pd.Timestamp("2024-07-20", tz="UTC"), *[f"A{n},a,crypto,,{n}," for n in names])

    assert [result.failure for result in results] == [None, None]
    for name in names:
        own = rows[rows["asset"] == name]
        fetched = bars_in(tmp_path, f"A{name}")
        assert fetched["time"].tolist() == pd.to_datetime(own["date"], utc=True).tolist()
        for column in ("open", "high", "low", "close", "volume"):
            np.testing.assert_array_equal(fetched[column], own[column])


def test_training_reads_what_was_fetched(fetch_at: FetchAt, server: LocalServer, tmp_path: Path) -> None:
    publish_two_months_and_days(server)
    publish(server, "2024-02", lines("2024-02-01", [0.5] * 29), symbol="SHIBUSDT")
    fetch_at(NOW, "BTC,Bitcoin,crypto,,BTCUSDT,BTCUSDT", "SHIB,Shiba,crypto,,SHIBUSDT,SHIB1000USDT")

    assets = (
        Asset("BTC", "Bitcoin", "crypto", "", "BTCUSDT", "BTCUSDT"),
        Asset("SHIB", "Shiba", "crypto", "", "SHIBUSDT", "SHIB1000USDT"),
    )
    loaded = files.load_from(str(tmp_path / "bars"), Universe(Path("universe.csv"), assets))

    expected = pd.concat([bars_in(tmp_path, "BTC"), bars_in(tmp_path, "SHIB")], ignore_index=True)
    pd.testing.assert_frame_equal(loaded.bars, expected, check_dtype=False)
    assert len(loaded.findings) == 0


def test_a_finished_fetch_asks_for_newer_bars_only(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_two_months_and_days(server)
    fetch_at(NOW)
    publish_days(server, [20, 21])
    server.asked.clear()

    (result,) = fetch_at(NOW + pd.Timedelta(days=2))

    assert asked_archives(server) == ["2024-03-20", "2024-03-21", "2024-03-22"]
    assert bars_in(tmp_path)["close"].tolist() == [*JANUARY, *FEBRUARY, *range(301, 322)]
    assert "2 new bars, 81 bars" in result.text


def test_nothing_is_asked_where_nothing_can_be_missing(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_two_months_and_days(server)
    fetch_at(NOW)
    before = (tmp_path / "bars" / "BTC.parquet").read_bytes()
    server.asked.clear()

    (result,) = fetch_at(NOW + pd.Timedelta(hours=3))

    assert server.asked == []
    assert result.text.startswith("nothing is missing; 79 bars")
    assert (tmp_path / "bars" / "BTC.parquet").read_bytes() == before


def test_an_interrupted_fetch_goes_on_with_what_is_missing(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_two_months_and_days(server)
    january = path_of("BTCUSDT", "1d", "2024-01")
    server.pages[january].insert(0, Page(b"", 503))
    (failed,) = fetch_at(NOW)
    assert failed.failure is not None
    assert "answers 503" in failed.text
    assert not (tmp_path / "bars" / "BTC.parquet").exists()
    server.asked.clear()

    (result,) = fetch_at(NOW)

    before_january = [f"2023-{month}" for month in ("12", "11", "10", "09")]
    assert asked_archives(server) == ["2024-03-20", "2024-01", *before_january]
    assert result.failure is None
    assert len(bars_in(tmp_path)) == 79
    left = [path.name for path in (tmp_path / "bars" / ".fetch").iterdir() if path.suffix == ".zip"]
    assert left == []


def test_months_before_the_first_archive_were_before_the_listing(
    fetch_at: FetchAt, server: LocalServer
) -> None:
    publish_two_months_and_days(server)
    (result,) = fetch_at(NOW)

    assert min(asked_archives(server)) == "2023-09"
    assert "no archive" not in result.text


def test_an_asset_that_left_the_exchange_long_ago_is_found(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish(server, "2022-04", lines("2022-04-01", range(1, 31)))
    publish(server, "2022-05", lines("2022-05-01", range(31, 44)))
    (result,) = fetch_at(NOW)

    assert str(result) == "[1/1] BTC: 43 new bars, 43 bars, 2022-04-01 to 2022-05-13 (binance BTCUSDT)"
    server.asked.clear()
    (again,) = fetch_at(NOW)
    assert again.text.startswith("0 new bars")
    assert min(asked_archives(server)) == "2024-03-13"  # a week before, when it was gone already


def test_a_month_without_trading_between_others_is_named(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_two_months_and_days(server)
    publish(server, "2023-11", lines("2023-11-01", range(1, 31)))
    (result,) = fetch_at(NOW)

    assert result.text.endswith("; no archive for 2023-12")
    assert bars_in(tmp_path)["time"].iloc[0] == pd.Timestamp("2023-11-01", tz="UTC")


def test_the_newest_month_is_read_from_days_until_its_file_is_out(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_two_months_and_days(server, num_days=31)
    fetch_at(pd.Timestamp("2024-04-02 05:00", tz="UTC"), start=pd.Timestamp("2024-02-01", tz="UTC"))

    assert bars_in(tmp_path)["time"].tolist() == days("2024-02-01", "2024-03-31")


def test_days_that_a_month_lacks_are_taken_from_their_own_files(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_two_months_and_days(server)
    publish(server, "2024-02", lines("2024-02-01", FEBRUARY[:10]))  # as in issue 320 of the archives
    for day in range(11, 30):
        if day != 15:
            publish(server, f"2024-02-{day}", lines(f"2024-02-{day}", [FEBRUARY[day - 1]]))
    (result,) = fetch_at(NOW)

    assert result.text.endswith("; 18 days that the monthly archives lack taken from daily ones")
    expected = [close for close in (*JANUARY, *FEBRUARY) if close != FEBRUARY[14]]
    assert bars_in(tmp_path)["close"].tolist() == [*expected, *range(301, 320)]


def test_dates_outside_the_wish_are_left_out(fetch_at: FetchAt, server: LocalServer, tmp_path: Path) -> None:
    publish_two_months_and_days(server)
    start, stop = (pd.Timestamp(date, tz="UTC") for date in ("2024-01-20", "2024-02-06"))
    fetch_at(NOW, start=start, stop=stop)

    assert bars_in(tmp_path)["time"].tolist() == days("2024-01-20", "2024-02-05")
    assert asked_archives(server) == ["2024-02", "2024-01"]


def test_earlier_bars_are_added_where_they_are_wished_for_later(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_two_months_and_days(server)
    fetch_at(NOW, start=pd.Timestamp("2024-02-10", tz="UTC"))
    fetch_at(NOW, start=pd.Timestamp("2024-01-10", tz="UTC"))
    assert bars_in(tmp_path)["time"].tolist() == days("2024-01-10", "2024-03-19")

    server.asked.clear()
    fetch_at(NOW, start=pd.Timestamp("2024-01-10", tz="UTC"))
    assert server.asked == []


def test_minutes_have_their_end_as_time_and_the_last_is_over(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    rows = lines("2024-03-20 09:55", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], seconds=60)
    publish(server, "2024-03-20", rows, interval="1m")  # 10:00 is still going on
    fetch_at(NOW, interval="1m")

    bars = bars_in(tmp_path)
    assert bars["time"].tolist() == list(pd.date_range("2024-03-20 09:56", periods=5, freq="min", tz="UTC"))
    assert bars["close"].tolist() == [1, 2, 3, 4, 5]


def test_a_day_that_is_not_over_is_no_bar(fetch_at: FetchAt, server: LocalServer, tmp_path: Path) -> None:
    publish_two_months_and_days(server, num_days=20)
    fetch_at(NOW)
    assert bars_in(tmp_path)["time"].iloc[-1] == pd.Timestamp("2024-03-19", tz="UTC")


def test_repeated_and_misplaced_lines_are_put_right_and_counted(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    rows = lines("2024-02-01", FEBRUARY)
    publish_two_months_and_days(server)
    publish(server, "2024-02", [rows[1], rows[0], rows[2], *rows[2:]])
    (result,) = fetch_at(NOW)

    assert bars_in(tmp_path)["close"].tolist() == [*JANUARY, *FEBRUARY, *range(301, 320)]
    assert result.text.endswith("; 2 repeated or misplaced bars put right")


def test_a_wrong_checksum_is_fetched_again_once_then_named(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    path = publish(server, "2024-02", lines("2024-02-01", FEBRUARY))
    right = server.pages[path + ".CHECKSUM"][0]
    wrong = Page(checksum(b"something else", path))

    server.pages[path + ".CHECKSUM"] = [wrong]
    (result,) = fetch_at(NOW)
    assert result.failure is not None
    assert "the checksum of BTCUSDT-1d-2024-02.zip is wrong" in result.text
    assert server.asked.count(path) == 2
    assert not (tmp_path / "bars" / "BTC.parquet").exists()

    server.pages[path + ".CHECKSUM"] = [wrong, right]
    (result,) = fetch_at(NOW)
    assert result.failure is None


def test_a_body_that_ends_early_is_asked_for_again(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path, no_waiting: list[float]
) -> None:
    path = publish(server, "2024-02", lines("2024-02-01", FEBRUARY))
    whole = server.pages[path][0]
    server.pages[path] = [Page(whole.body[:100], announced=len(whole.body)), whole]
    (result,) = fetch_at(NOW, retries=3)

    assert result.failure is None
    assert bars_in(tmp_path)["close"].tolist() == FEBRUARY


def test_an_archive_that_is_no_zip_although_its_checksum_is_right_is_named(
    fetch_at: FetchAt, server: LocalServer
) -> None:
    publish(server, "2024-02", zipped(lines("2024-02-01", FEBRUARY))[:-40])
    (result,) = fetch_at(NOW)
    assert "BTCUSDT-1d-2024-02.zip is not a whole zip archive" in result.text


def test_web_pages_in_the_place_of_everything_are_named(fetch_at: FetchAt, server: LocalServer) -> None:
    server.chart = lambda _path, _query: Page(b"<html><body>Sign in to the network</body></html>")
    (result,) = fetch_at(NOW)
    assert "is a web page in the place of a checksum" in result.text


def test_one_asset_that_fails_leaves_the_others(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    publish_two_months_and_days(server)
    rows = ["NO,Nothing,crypto,,NOUSDT,", "NIL,None,crypto,,,", "BTC,Bitcoin,crypto,,BTCUSDT,"]
    results = fetch_at(NOW, *rows)

    assert [result.symbol for result in results if result.failure] == ["NO", "NIL"]
    assert "Binance has no 1d bars of NOUSDT" in results[0].text
    assert "the universe names no symbol at any source" in results[1].text
    assert len(bars_in(tmp_path)) == 79


def test_refusals_beyond_the_retries_stop_the_source(
    fetch_at: FetchAt, server: LocalServer, no_waiting: list[float]
) -> None:
    server.chart = lambda _path, _query: Page(b"", 429, {"Retry-After": "7"})
    rows = ["BTC,Bitcoin,crypto,,BTCUSDT,", "ETH,Ether,crypto,,ETHUSDT,"]
    results = fetch_at(NOW, *rows, retries=2)

    assert [seconds for seconds in no_waiting if seconds > 0.1] == [7, 7]
    assert len(server.asked) == 3
    assert "refuses more requests for now" in results[0].text
    assert results[1].text == "failed: not asked, binance has stopped"


def test_no_network_is_said_once_with_what_to_do(
    fetch: Fetch, server: LocalServer, no_waiting: list[float]
) -> None:
    rows = "BTC,Bitcoin,crypto,,BTCUSDT\nETH,Ether,crypto,,ETHUSDT"
    server.close()  # nobody listens at its port any more
    code, said, complaint = fetch(rows=rows)

    assert code == 1
    assert "0 of 2 assets in bars" in said
    assert complaint.startswith("failed: BTC, ETH: cannot reach http://127.0.0.1")
    assert complaint.count("fetch on the login node") == 1


def test_the_command_ends_with_1_where_an_asset_failed(
    fetch: Fetch, server: LocalServer, tmp_path: Path
) -> None:
    publish(server, "2024-02", lines("2024-02-01", FEBRUARY))
    rows = "BTC,Bitcoin,crypto,BTC-USD,BTCUSDT\nNO,Nothing,crypto,,NOUSDT"
    code, said, complaint = fetch("--from", "2024-02-01", "--to", "2024-02-29", rows=rows)

    assert code == 1
    assert said.splitlines() == [
        "[1/2] BTC: 29 new bars, 29 bars, 2024-02-01 to 2024-02-29 (binance BTCUSDT)",
        "[2/2] NO: failed: Binance has no 1d bars of NOUSDT in this time",
        "1 of 2 assets in bars",
    ]
    assert complaint.startswith("failed: NO: Binance has no 1d bars of NOUSDT in this time\n    fix: ")
    assert np.array_equal(bars_in(tmp_path)["close"], FEBRUARY)


def test_the_command_ends_with_0_where_all_went_well(fetch: Fetch, server: LocalServer) -> None:
    publish(server, "2024-02", lines("2024-02-01", FEBRUARY))
    code, _, complaint = fetch("--from", "2024-02-01", "--to", "2024-02-29")
    assert (code, complaint) == (0, "")


@pytest.mark.parametrize("status", [403, 451])
def test_a_refusal_names_the_address(fetch_at: FetchAt, server: LocalServer, status: int) -> None:
    server.chart = lambda _path, _query: Page(b"", status)
    (result,) = fetch_at(NOW)
    assert f"BTCUSDT-1d-2024-03-01.zip answers {status}" in result.text
