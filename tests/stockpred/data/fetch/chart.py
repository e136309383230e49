"""Yahoo's answers about bars (``/v8/finance/chart/SYMBOL``), made by hand in the shape that it gives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from yfinance.cache import get_tz_cache
from yfinance.data import YfData

from stockpred.data.fetch.sources.yahoo import keep_cache_here
from tests.stockpred.data.fetch.conftest import LocalServer, Page, Query

NOW = pd.Timestamp("2024-03-20 12:00", tz="UTC")
NEW_YORK = "America/New_York"
ROW = "AAPL,Apple,us_equity,AAPL,,"
CHART = "/v8/finance/chart/"
NOT_FOUND = {"code": "Not Found", "description": "No data found, symbol may be delisted"}


@dataclass
class Listing:
    """One asset at Yahoo. ``starts`` are its bars' starts in the exchange's time, ``close`` [N] its closes.

    Open, high and low lie 1 below, 2 above and 3 below the close; the volume is 1000 in each bar.
    """

    starts: pd.DatetimeIndex
    close: np.ndarray
    adjusted: np.ndarray | None = None
    dividends: dict[pd.Timestamp, float] = field(default_factory=dict)
    sessions: list[tuple[pd.Timestamp, pd.Timestamp]] = field(default_factory=list)
    volume: float = 1000.0

    def answer(self, query: Query) -> Page:
        first, last = int(query.get("period1", 0)), int(query.get("period2", 2**40))
        seconds = self.starts.tz_convert("UTC").as_unit("s").asi8
        chosen = (seconds >= first) & (seconds < last)
        if not chosen.any() and "period1" in query:
            return Page(body(None, None))
        result = {"meta": self._meta(query), "timestamp": seconds[chosen].tolist()}
        result["indicators"] = self._indicators(chosen, query["interval"] == "1d")
        paid = {str(day): amount for day, amount in self._paid(first, last)}
        if paid:
            result["events"] = {"dividends": paid}
        return Page(body(result, None))

    def _indicators(self, chosen: np.ndarray, is_daily: bool) -> dict[str, object]:
        quote = {
            name: (self.close[chosen] + offset).tolist()
            for name, offset in (("open", -1), ("high", 2), ("low", -3), ("close", 0))
        }
        quote["volume"] = np.full(chosen.sum(), self.volume).tolist()
        adjusted = self.close if self.adjusted is None else self.adjusted
        return {
            "quote": [quote],
            **({"adjclose": [{"adjclose": adjusted[chosen].tolist()}]} if is_daily else {}),
        }

    def _paid(self, first: int, last: int) -> list[tuple[int, dict[str, float]]]:
        stamps = [(int(day.timestamp()), amount) for day, amount in self.dividends.items()]
        return [(at, {"amount": amount, "date": at}) for at, amount in stamps if first <= at < last]

    def _meta(self, query: Query) -> dict[str, object]:
        zone = str(self.starts.tz)
        periods = [
            [{"timezone": "X", "start": int(a.timestamp()), "end": int(b.timestamp()), "gmtoffset": 0}]
            for a, b in self.sessions
        ]
        current = {"timezone": "X", "start": 0, "end": 0, "gmtoffset": 0}
        meta: dict[str, object] = {
            "currency": "USD",
            "instrumentType": "EQUITY",
            "exchangeTimezoneName": zone,
            "dataGranularity": query["interval"],
            "validRanges": ["1d", "5d", "max"],
            "priceHint": 2,
            "currentTradingPeriod": {name: dict(current) for name in ("pre", "regular", "post")},
        }
        return meta | ({"tradingPeriods": periods} if periods else {})


def body(result: object, error: object) -> bytes:
    return json.dumps({"chart": {"result": None if result is None else [result], "error": error}}).encode()


def yahoo(**listings: Listing) -> Callable[[str, Query], Page]:
    """Return how Yahoo answers where these are its listings; other symbols are unknown to it."""

    def answer(path: str, query: Query) -> Page:
        if not path.startswith(CHART):
            return Page(b"", 404)  # cookies, consent and crumb, without which it goes on
        listing = listings.get(path.removeprefix(CHART))
        return Page(body(None, NOT_FOUND), 404) if listing is None else listing.answer(query)

    return answer


def forget() -> None:
    """Let yfinance forget the answers and time zones of other tests."""
    keep_cache_here()
    YfData.cache_get.cache_clear()
    for symbol in ("AAPL", "MSFT"):
        get_tz_cache().store(symbol, None)


def opens(first: str, count: int, *, zone: str = NEW_YORK, at: str = "09:30") -> pd.DatetimeIndex:
    """Return the openings of sessions on weekdays."""
    return pd.DatetimeIndex(
        [pd.Timestamp(f"{day:%Y-%m-%d} {at}", tz=zone) for day in pd.bdate_range(first, periods=count)]
    )


def bars_in(folder: Path, symbol: str = "AAPL") -> pd.DataFrame:
    return pd.read_parquet(folder / "bars" / f"{symbol}.parquet")


def queries(server: LocalServer, symbol: str = "AAPL") -> list[Query]:
    """Return the queries for a symbol's bars, without those for its time zone."""
    return [
        query
        for path, query in zip(server.asked, server.queries, strict=True)
        if path == CHART + symbol and "period1" in query
    ]
