"""Yahoo Finance: the real yfinance talks to a server on this machine that answers in Yahoo's shape."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("yfinance", reason="yfinance: pip install 'stockpred[fetch]'")

from tests.stockpred.data.fetch.chart import (
    CHART,
    NEW_YORK,
    NOW,
    ROW,
    Listing,
    bars_in,
    body,
    forget,
    opens,
    queries,
    yahoo,
)
from tests.stockpred.data.fetch.conftest import Fetch, FetchAt, LocalServer, Page


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    forget()


def daily(count: int = 40, *, first: str = "2024-01-02", adjusted: np.ndarray | None = None) -> Listing:
    return Listing(opens(first, count), 100.0 + np.arange(count), adjusted)


def test_all_four_prices_are_adjusted_by_one_factor(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    # Ex-dividend on the 21st bar, 2 per share after a close of 119: earlier prices times 1 - 2 / 119.
    close = 100.0 + np.arange(40)
    factor = np.where(np.arange(40) < 20, 1 - 2 / 119, 1.0)
    server.chart = yahoo(AAPL=daily(adjusted=close * factor))
    (result,) = fetch_at(NOW, ROW)

    bars = bars_in(tmp_path)
    assert result.failure is None
    for name, offset in (("open", -1), ("high", 2), ("low", -3), ("close", 0)):
        np.testing.assert_allclose(bars[name], (close + offset) * factor, rtol=1e-12)
    assert bars["volume"].tolist() == [1000.0] * 40
    assert bars["time"].tolist() == list(pd.bdate_range("2024-01-02", periods=40, tz="UTC"))


@pytest.mark.parametrize(
    ("zone", "at"),
    [
        (NEW_YORK, "09:30"),
        ("Asia/Tokyo", "09:00"),
        ("Pacific/Auckland", "10:00"),
        ("Europe/London", "08:00"),
        ("UTC", "00:00"),
    ],
)
def test_a_daily_bar_has_its_date_at_the_exchange(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path, zone: str, at: str
) -> None:
    server.chart = yahoo(AAPL=Listing(opens("2024-02-26", 15, zone=zone, at=at), np.full(15, 50.0)))
    start, stop = (pd.Timestamp(date, tz="UTC") for date in ("2024-02-28", "2024-03-09"))
    fetch_at(NOW, ROW, start=start, stop=stop)

    assert bars_in(tmp_path)["time"].tolist() == list(pd.bdate_range("2024-02-28", "2024-03-08", tz="UTC"))


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2024-03-19 22:00", "2024-03-18"),  # 18:00 in New York: closed, but its day is not over
        ("2024-03-20 02:00", "2024-03-18"),  # 22:00 in New York, where it is not over either
        ("2024-03-20 05:00", "2024-03-19"),
    ],
)
def test_a_day_that_is_not_over_is_no_bar(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path, now: str, last: str
) -> None:
    server.chart = yahoo(AAPL=daily(57))  # up to 2024-03-20
    fetch_at(pd.Timestamp(now, tz="UTC"), ROW)
    assert bars_in(tmp_path)["time"].iloc[-1] == pd.Timestamp(last, tz="UTC")


def test_a_finished_fetch_asks_for_a_few_known_bars_and_newer_ones(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    server.chart = yahoo(AAPL=daily(60))
    fetch_at(pd.Timestamp("2024-03-02 12:00", tz="UTC"), ROW)
    assert bars_in(tmp_path)["time"].iloc[-1] == pd.Timestamp("2024-03-01", tz="UTC")
    server.asked.clear()
    server.queries.clear()

    (result,) = fetch_at(NOW, ROW)

    (query,) = queries(server)
    assert (
        pd.Timestamp(int(query["period1"]), unit="s", tz=NEW_YORK).date() == pd.Timestamp("2024-02-19").date()
    )
    assert bars_in(tmp_path)["close"].tolist() == (100.0 + np.arange(56)).tolist()
    assert result.text.startswith("12 new bars, 56 bars, 2024-01-02 to 2024-03-19")


def test_a_dividend_since_the_last_fetch_adjusts_the_bars_before_it_too(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    server.chart = yahoo(AAPL=daily(60))
    fetch_at(pd.Timestamp("2024-03-02 12:00", tz="UTC"), ROW)
    close = 100.0 + np.arange(60)
    factor = np.where(np.arange(60) < 50, 0.98, 1.0)
    server.chart = yahoo(AAPL=daily(60, adjusted=close * factor))

    (result,) = fetch_at(NOW, ROW)

    np.testing.assert_allclose(bars_in(tmp_path)["close"], (close * factor)[:56], rtol=1e-12)
    assert "adjusted anew" in result.text


def test_no_newer_bars_of_a_delisted_asset_are_no_failure(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    server.chart = yahoo(AAPL=daily(10))
    fetch_at(NOW, ROW)
    before = (tmp_path / "bars" / "AAPL.parquet").read_bytes()

    (result,) = fetch_at(NOW + pd.Timedelta(days=30), ROW)

    assert result.failure is None
    assert result.text.startswith("0 new bars, 10 bars")
    assert (tmp_path / "bars" / "AAPL.parquet").read_bytes() == before


@pytest.mark.parametrize("again", [1, 2])
def test_an_unknown_symbol_is_named_and_the_others_are_fetched(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path, again: int
) -> None:
    server.chart = yahoo(AAPL=daily())
    rows = [*[f"NOPE{number},No,us_equity,NOPE{number},," for number in range(again)], ROW]
    results = fetch_at(NOW, *rows)

    for number, result in enumerate(results[:-1]):
        assert f"NOPE{number}" in result.text
        assert result.failure is not None
        assert "unknown or delisted" in str(result.failure.fix)
    assert len(bars_in(tmp_path)) == 40


def test_no_bars_in_the_wished_time_is_named(fetch_at: FetchAt, server: LocalServer) -> None:
    server.chart = yahoo(AAPL=daily())
    (result,) = fetch_at(NOW, ROW, stop=pd.Timestamp("2020-01-01", tz="UTC"))
    assert "Yahoo has no bars of AAPL" in result.text


def test_a_reason_that_yahoo_gives_is_passed_on(fetch_at: FetchAt, server: LocalServer) -> None:
    reason = "1m data not available for startTime=1. Only 8 days worth of 1m granularity data are allowed."
    answer = yahoo(AAPL=daily())

    def refuse_bars(path: str, query: dict[str, str]) -> Page:
        error = body(None, {"code": "Unprocessable Entity", "description": reason})
        return Page(error, 422) if "period1" in query else answer(path, query)

    server.chart = refuse_bars
    (result,) = fetch_at(NOW, ROW, interval="1m")

    assert reason in result.text
    assert result.failure is not None
    assert "--from and --to" in str(result.failure.fix)


def test_too_many_requests_are_waited_out_as_long_as_asked(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path, no_waiting: list[float]
) -> None:
    answer = yahoo(AAPL=daily())
    refusals = [Page(b"Too Many Requests", 429, {"Retry-After": "11"})] * 2

    def refuse_first(path: str, query: dict[str, str]) -> Page:
        return refusals.pop() if path == CHART + "AAPL" and refusals else answer(path, query)

    server.chart = refuse_first
    (result,) = fetch_at(NOW, ROW, retries=3)

    assert result.failure is None
    assert [seconds for seconds in no_waiting if seconds > 0.1] == [11, 11]
    assert len(bars_in(tmp_path)) == 40


def test_refusals_beyond_the_retries_stop_the_source(
    fetch_at: FetchAt, server: LocalServer, no_waiting: list[float]
) -> None:
    server.chart = lambda _path, _query: Page(b"Too Many Requests", 429)
    results = fetch_at(NOW, ROW, "MSFT,Microsoft,us_equity,MSFT,,", retries=2)

    assert "refuses more requests for now" in results[0].text
    assert results[1].text == "failed: not asked, yahoo has stopped"
    assert not any("MSFT" in path for path in server.asked)
    assert [seconds for seconds in no_waiting if seconds > 0.1] == [1, 2]


@pytest.mark.parametrize("status", [200, 503])
def test_a_web_page_in_the_place_of_bars_is_named(
    fetch_at: FetchAt, server: LocalServer, status: int
) -> None:
    server.chart = lambda _path, _query: Page(b"<html><body>Sign in to the network</body></html>", status)
    (result,) = fetch_at(NOW, ROW)
    assert f"Yahoo's answer about AAPL (HTTP {status}) cannot be read" in result.text


def test_no_network_is_named_with_what_to_do(
    fetch: Fetch, server: LocalServer, no_waiting: list[float]
) -> None:
    server.close()
    code, _, complaint = fetch("--source", "yahoo", rows="AAPL,Apple,us_equity,AAPL,\nMSFT,M,us_equity,MSFT,")

    assert code == 1
    assert "cannot reach http://127.0.0.1" in complaint
    assert "fetch on the login node" in complaint


def test_auto_goes_on_with_the_source_that_a_file_came_from(fetch_at: FetchAt, server: LocalServer) -> None:
    row = "COIN,Coin,crypto,AAPL,BTCUSDT,"  # without a file, auto would take Binance
    server.chart = yahoo(AAPL=daily(60))
    fetch_at(pd.Timestamp("2024-03-02 12:00", tz="UTC"), row, source="yahoo")

    (result,) = fetch_at(NOW, row)

    assert result.text.startswith("12 new bars, 56 bars")
    assert result.text.endswith("(yahoo AAPL)")


def test_held_bars_are_not_given_up_for_fewer(fetch_at: FetchAt, server: LocalServer, tmp_path: Path) -> None:
    server.chart = yahoo(AAPL=daily(40))
    fetch_at(NOW, ROW)
    before = (tmp_path / "bars" / "AAPL.parquet").read_bytes()
    server.chart = yahoo(AAPL=Listing(opens("2024-01-16", 45), np.full(45, 7.0)))

    (result,) = fetch_at(NOW, ROW)

    assert "the bars that are there begin 2024-01-02, Yahoo's now begin 2024-01-16" in result.text
    assert (tmp_path / "bars" / "AAPL.parquet").read_bytes() == before


def test_an_adjustment_that_jumps_while_the_price_does_not_is_ignored_and_said(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    close = 100.0 + np.arange(40)
    server.chart = yahoo(AAPL=daily(adjusted=np.where(np.arange(40) < 20, close / 2, close)))
    (result,) = fetch_at(NOW, ROW)

    returns = np.diff(np.log(bars_in(tmp_path)["close"]))
    np.testing.assert_allclose(returns, np.diff(np.log(close)), rtol=1e-9)
    assert result.text.endswith("; 1 jump of the adjustment without one of the price ignored")


def test_without_yfinance_its_name_and_how_to_get_it_are_said(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "stockpred.data.fetch.sources.yahoo", raising=False)
    monkeypatch.setitem(sys.modules, "yfinance", None)
    code, _, complaint = fetch("--source", "yahoo")

    assert code == 1
    assert "yfinance is not installed" in complaint
    assert "stockpred[fetch]" in complaint
