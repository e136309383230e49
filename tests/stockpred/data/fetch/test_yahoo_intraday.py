"""Hours and minutes of Yahoo Finance: their ends, sessions, dividends, and how long they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("yfinance", reason="yfinance: pip install 'stockpred[fetch]'")

from tests.stockpred.data.fetch.chart import NEW_YORK, NOW, ROW, Listing, bars_in, forget, queries, yahoo
from tests.stockpred.data.fetch.conftest import FetchAt, LocalServer


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    forget()


def hours(*days: tuple[str, str], extra: tuple[str, ...] = ()) -> Listing:
    """Return hourly bars of New York sessions, each (date, time of its end), and of further starts."""
    sessions = [
        (pd.Timestamp(f"{day} 09:30", tz=NEW_YORK), pd.Timestamp(f"{day} {end}", tz=NEW_YORK))
        for day, end in days
    ]
    starts = [
        start for first, end in sessions for start in pd.date_range(first, end, freq="h", inclusive="left")
    ]
    starts += [pd.Timestamp(text, tz=NEW_YORK) for text in extra]
    return Listing(pd.DatetimeIndex(starts), 100.0 + np.arange(len(starts)), sessions=sessions)


def test_an_hourly_bar_has_its_end_as_time_and_the_last_ends_with_the_session(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    server.chart = yahoo(AAPL=hours(("2024-03-14", "16:00"), ("2024-03-15", "13:00")))
    fetch_at(NOW, ROW, interval="1h", start=pd.Timestamp("2024-03-01", tz="UTC"))

    local = bars_in(tmp_path)["time"].dt.tz_convert(NEW_YORK).dt.strftime("%d %H:%M").tolist()
    whole = ["10:30", "11:30", "12:30", "13:30", "14:30", "15:30", "16:00"]
    half = ["10:30", "11:30", "12:30", "13:00"]
    assert local == [f"14 {time}" for time in whole] + [f"15 {time}" for time in half]


def test_the_hour_that_goes_on_and_the_latest_price_are_no_bars(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    server.chart = yahoo(AAPL=hours(("2024-03-14", "16:00"), extra=("2024-03-14 16:00:00",)))
    now = pd.Timestamp("2024-03-14 12:10:07", tz=NEW_YORK)
    fetch_at(now.tz_convert("UTC"), ROW, interval="1h", start=pd.Timestamp("2024-03-01", tz="UTC"))

    local = bars_in(tmp_path)["time"].dt.tz_convert(NEW_YORK).dt.strftime("%H:%M").tolist()
    assert local == ["10:30", "11:30"]


def test_the_last_hour_of_a_market_that_never_closes_ends_at_midnight(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    day = pd.Timestamp("2024-03-14", tz="UTC")
    starts = pd.date_range(day, periods=24, freq="h")
    session = (day, day + pd.Timedelta("23h59min"))  # as Yahoo states it for coins
    server.chart = yahoo(AAPL=Listing(starts, np.full(24, 9.0), sessions=[session]))
    fetch_at(NOW, ROW, interval="1h", start=day)

    assert bars_in(tmp_path)["time"].tolist() == list(starts + pd.Timedelta(hours=1))


def test_hourly_bars_before_a_dividend_are_multiplied_by_1_less_its_share_of_the_close(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    listing = hours(("2024-03-13", "16:00"), ("2024-03-14", "16:00"), ("2024-03-15", "16:00"))
    listing.dividends = {
        pd.Timestamp(f"2024-03-{day} 09:30", tz=NEW_YORK): paid for day, paid in ((14, 2.0), (15, 3.0))
    }
    server.chart = yahoo(AAPL=listing)
    fetch_at(NOW, ROW, interval="1h", start=pd.Timestamp("2024-03-01", tz="UTC"))

    # Closes are 100 to 120, seven a day: the last before the dividends are 106 and 113.
    first, second = 1 - 2 / 106, 1 - 3 / 113
    factor = np.repeat([first * second, second, 1.0], 7)
    np.testing.assert_allclose(bars_in(tmp_path)["close"], (100 + np.arange(21)) * factor, rtol=1e-12)
    np.testing.assert_allclose(bars_in(tmp_path)["low"], (97 + np.arange(21)) * factor, rtol=1e-12)


def test_held_hours_are_rescaled_where_a_dividend_came_since(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    days = [("2024-03-13", "16:00"), ("2024-03-14", "16:00"), ("2024-03-15", "16:00")]
    start = pd.Timestamp("2024-03-01", tz="UTC")
    server.chart = yahoo(AAPL=hours(*days[:2]))
    fetch_at(pd.Timestamp("2024-03-15 01:00", tz="UTC"), ROW, interval="1h", start=start)
    listing = hours(*days)
    listing.dividends = {pd.Timestamp("2024-03-15 09:30", tz=NEW_YORK): 3.0}
    server.chart = yahoo(AAPL=listing)

    (result,) = fetch_at(NOW, ROW, interval="1h", start=start)

    assert result.failure is None
    factor = np.repeat([1 - 3 / 113, 1 - 3 / 113, 1.0], 7)
    np.testing.assert_allclose(bars_in(tmp_path)["close"], (100 + np.arange(21)) * factor, rtol=1e-12)
    assert bars_in(tmp_path)["volume"].tolist() == [1000.0] * 21


def test_minutes_are_asked_for_in_weeks_and_no_further_back_than_yahoo_keeps_them(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    day = pd.Timestamp("2024-03-14 09:30", tz=NEW_YORK)
    session = (day, day + pd.Timedelta("390min"))
    starts = pd.date_range(*session, freq="min", inclusive="left")
    server.chart = yahoo(AAPL=Listing(starts, np.full(390, 9.0), sessions=[session]))
    (result,) = fetch_at(NOW, ROW, interval="1m", start=pd.Timestamp("2024-01-01", tz="UTC"))

    spans = [(int(query["period1"]), int(query["period2"])) for query in queries(server)]
    assert min(spans)[0] == int((NOW - pd.Timedelta(days=29)).normalize().timestamp())
    assert max(end - begin for begin, end in spans) <= 8 * 86400
    assert [begin for begin, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert spans[-1][1] == int(NOW.timestamp())
    assert bars_in(tmp_path)["time"].tolist() == list((starts + pd.Timedelta(minutes=1)).tz_convert("UTC"))
    assert result.text.endswith("; Yahoo keeps 1m bars for 29 days only")


def test_a_dividend_adjusts_the_minutes_of_the_weeks_before_it_too(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    mornings = [pd.Timestamp(f"2024-03-{day} 09:30", tz=NEW_YORK) for day in ("04", "15")]
    starts = pd.DatetimeIndex([day + pd.Timedelta(minutes=minute) for day in mornings for minute in range(5)])
    sessions = [(day, day + pd.Timedelta("390min")) for day in mornings]
    listing = Listing(starts, np.full(10, 50.0), sessions=sessions, dividends={mornings[1]: 1.0})
    server.chart = yahoo(AAPL=listing)
    fetch_at(NOW, ROW, interval="1m")

    assert len(queries(server)) > 2
    np.testing.assert_allclose(bars_in(tmp_path)["close"], [50 * (1 - 1 / 50)] * 5 + [50.0] * 5, rtol=1e-12)


def test_minutes_that_do_not_reach_the_held_ones_are_refused(
    fetch_at: FetchAt, server: LocalServer, tmp_path: Path
) -> None:
    for date, now in (("2024-01-11", "2024-01-12"), ("2024-03-14", "2024-03-20")):
        day = pd.Timestamp(f"{date} 09:30", tz=NEW_YORK)
        session = (day, day + pd.Timedelta("390min"))
        starts = pd.date_range(*session, freq="min", inclusive="left")
        server.chart = yahoo(AAPL=Listing(starts, np.full(390, 9.0), sessions=[session]))
        (result,) = fetch_at(pd.Timestamp(now, tz="UTC"), ROW, interval="1m")

    assert "do not go over into those that Yahoo still has" in result.text
    assert bars_in(tmp_path)["time"].iloc[-1] == pd.Timestamp("2024-01-11 21:00", tz="UTC")
