"""Yahoo Finance, through the library yfinance: stocks, indices, futures, currencies, coins.

What yfinance sends passes through a session of our own, which keeps to the pace and may turn to a mirror.
Prices are taken unadjusted beside the adjusted close, and adjusted by the code that reads such files
(``stockpred.data.sources.files.adjust``); intraday bars, to which Yahoo gives no adjusted close (issues #565
and #2351 of yfinance), by the dividends that come with them. Yahoo's prices are adjusted for splits already.

One asset is asked for at a time: the columns of ``yfinance.download`` have a second level for the asset.
yfinance's own repair of prices (pence taken for pounds, missed splits) stays off: it fails on some series
(its issues #2855, #2890) and has invented splits (#2660); the quality checks see such jumps and say so. It
gives 0 where Yahoo knows no volume.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pandas as pd
import yfinance
from curl_cffi import requests
from yfinance import exceptions

from hpc.base.text import count
from stockpred.data.bars import COLUMNS, PRICES, TIME_TYPE
from stockpred.data.fetch import tables
from stockpred.data.fetch.order import (
    FetchError,
    NothingFound,
    Opening,
    Order,
    Reply,
    host_unreachable,
    too_many_requests,
)
from stockpred.data.fetch.pacing import Pace, is_busy
from stockpred.data.sources import files

BASE_URL = "https://query2.finance.yahoo.com"
INTERVALS = ("1d", "1h", "1m")
PER_MINUTE = 60
AUTO_RANK = 2

BARS = "/v8/finance/chart/"
"""Under this path lie the bars; what else yfinance asks for (a cookie, a crumb) it can do without."""
KEPT: Final = {"1h": pd.Timedelta("729 days"), "1m": pd.Timedelta("29 days")}
"""How long Yahoo keeps intraday bars, less a day: the first one is asked for from its midnight."""
AT_ONCE: Final = {"1h": pd.Timedelta("729 days"), "1m": pd.Timedelta("7 days")}
"""What one request may span."""
OVERLAP = 10
"""So many bars are asked for again, to see whether Yahoo adjusted them since."""
ROUND_THE_CLOCK: Final = pd.Timedelta("1 minute")
"""Yahoo ends a session of 24 hours at 23:59; its last bar lasts to midnight nevertheless."""
TIMEOUT_S = 30
MOVE_AWAY = "move the asset's file away to begin again, or fetch into another folder"
UNKNOWN = "unknown or delisted: look the symbol up at Yahoo, and correct the universe's column `yahoo`"


def open_source(opening: Opening) -> Yahoo:
    return Yahoo(opening)


class Yahoo:
    """Yahoo Finance, asked for one asset at a time."""

    def __init__(self, opening: Opening) -> None:
        self.library = f"yfinance {yfinance.__version__}"
        self._opening = opening
        self._session = _PacedSession(opening)
        keep_cache_here()
        yfinance.config.debug.hide_exceptions = False
        logging.getLogger("yfinance").setLevel(logging.CRITICAL)

    def close(self) -> None:
        self._session.close()

    def bars(self, order: Order) -> Reply:
        """Return the bars of an order; raise FetchError where they cannot be had.

        Held bars are continued from a few of their last ones. Where these have another price now, a dividend
        or split has come since: daily bars are then fetched again from their first, intraday bars, which
        Yahoo keeps for a while only, are multiplied by the ratio.
        """
        self._session.last_status = 0
        held, notes = order.held, _note_of_what_is_gone(order)
        if held is None:
            new, mended = self._from(order, order.start)
            return Reply(new, notes + mended)
        overlap = tables.spans(held["time"].iloc[-OVERLAP:], order.length)[0].iloc[0]
        try:
            new, mended = self._from(order, _earlier(order.start, overlap))
        except NothingFound:
            return Reply(held, notes)
        ratio = tables.price_ratio(held, new)
        if ratio == 1.0:
            return Reply(tables.joined(held, new), notes + mended)
        if order.length.is_daily:
            whole, mended = self._from(order, _earlier(order.start, held["time"].iloc[0]))
            _refuse_a_later_beginning(held, whole)
            return Reply(whole, (*notes, "adjusted anew: fetched again from the first bar", *mended))
        if ratio is None:
            raise FetchError(
                f"the {order.length.name} bars that are there end {held['time'].iloc[-1]:%Y-%m-%d} and do "
                "not go over into those that Yahoo still has",
                fix=MOVE_AWAY,
            )
        return Reply(tables.joined(tables.rescaled(held, new, ratio), new), notes + mended)

    def _from(self, order: Order, start: pd.Timestamp | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Return the bars from ``start`` on and notes about them; raise NothingFound where there are none."""
        reason = NothingFound(
            f"Yahoo has no finished bars of {order.name} in this time", fix="--from and --to"
        )
        ticker = yfinance.Ticker(order.name, session=self._session)
        histories: list[pd.DataFrame] = []
        sessions: list[pd.DataFrame] = []
        for begin, end in _requests(order, start):
            self._opening.watcher.doing(order.name)
            try:
                histories.append(self._history(ticker, order, begin, end))
            except NothingFound as error:
                reason = error
                continue
            sessions += [] if order.length.is_daily else [_sessions(ticker)]
        if not histories:
            raise reason
        history = pd.concat(histories)
        history = history[~history.index.duplicated(keep="last")]
        bars, mended = _in_bars_format(history, pd.concat(sessions) if sessions else None, order)
        bars = tables.wanted(bars, replace(order, start=start)).reset_index(drop=True)
        if bars.empty:
            raise reason
        return bars, mended

    def _history(
        self, ticker: Any, order: Order, begin: pd.Timestamp | None, end: pd.Timestamp
    ) -> pd.DataFrame:
        """Return what yfinance gives for one request; turn its failures into ours."""
        if order.length.is_daily:  # dates without a zone are dates at the exchange
            begin, end = None if begin is None else begin.tz_localize(None), end.tz_localize(None)
        span = {"period": "max"} if begin is None else {"start": begin}
        try:
            with warnings.catch_warnings(action="ignore"):  # of pandas, about how yfinance is written
                history: pd.DataFrame = ticker.history(
                    **span, end=end, interval=order.length.name, auto_adjust=False, timeout=TIMEOUT_S
                )
        except (exceptions.YFException, OSError, ValueError, LookupError, TypeError) as error:
            raise self._failure(error, order.name) from error
        return history

    def _failure(self, error: Exception, name: str) -> FetchError:
        """Return our failure for one of yfinance, or of the library below it."""
        if isinstance(error, exceptions.YFRateLimitError):
            return too_many_requests(self._opening.base_url)
        if isinstance(error, exceptions.YFTickerMissingError):
            fix = UNKNOWN if "delisted" in str(error) else "choose other dates with --from and --to"
            return NothingFound(f"Yahoo has no bars of {name}: {error.rationale}", fix=fix)
        if isinstance(error, requests.exceptions.HTTPError):
            if error.response is not None and error.response.status_code == HTTPStatus.NOT_FOUND:
                return NothingFound(f"Yahoo knows no {name}", fix=UNKNOWN)
            return FetchError(f"Yahoo refuses {name}: {error}", fix="try again later")
        if isinstance(error, OSError):
            return host_unreachable(self._opening.base_url, error)
        return FetchError(
            f"Yahoo's answer about {name} (HTTP {self._session.last_status}) cannot be read: {error!r}",
            fix="try again later; where it lasts, a newer yfinance may know: pip install -U yfinance",
        )


class _PacedSession(requests.Session[requests.Response]):
    """A session like a browser's whose requests keep to the pace, and go to the base URL's host."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(impersonate="chrome")
        self._pace: Pace = opening.pace
        self._mirror = urlsplit(opening.base_url) if opening.base_url != BASE_URL else None
        self.last_status = 0

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        if self._mirror is not None:
            parts = urlsplit(url)
            path = self._mirror.path.rstrip("/") + parts.path
            url = urlunsplit(
                parts._replace(scheme=self._mirror.scheme, netloc=self._mirror.netloc, path=path)
            )

        def send() -> requests.Response:
            return super(_PacedSession, self).request(method, url, *args, **kwargs)

        if BARS not in url:
            self._pace.wait_turn()
            return send()
        # yfinance repeats a refused request once, with another cookie: by then it has had its retries.
        answer = send() if is_busy(self.last_status) else self._pace.ask(send)
        self.last_status = answer.status_code
        return answer


@cache
def keep_cache_here() -> None:
    """Let yfinance keep its databases on this machine until this process ends.

    Their usual place is the home directory, where on a cluster a network file system locks them badly.
    """
    folder = tempfile.mkdtemp(prefix="yfinance-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    yfinance.set_tz_cache_location(folder)


def _requests(order: Order, start: pd.Timestamp | None) -> Iterator[tuple[pd.Timestamp | None, pd.Timestamp]]:
    """Yield (begin, end) of each request that an order takes; begin None asks for all there is."""
    if order.length.is_daily:
        yield start, order.stop
        return
    oldest = order.now - KEPT[order.length.name]
    begin = (oldest if start is None else max(start, oldest)).normalize()  # a day's dividend is in one answer
    while begin < order.stop:
        end = min(begin + AT_ONCE[order.length.name], order.stop)
        yield begin, end
        begin = end


def _note_of_what_is_gone(order: Order) -> tuple[str, ...]:
    """Return a note where bars are asked for that Yahoo no longer keeps."""
    kept = KEPT.get(order.length.name)
    if kept is None or order.start is None or order.start >= order.now - kept:
        return ()
    return (f"Yahoo keeps {order.length.name} bars for {kept.days} days only",)


def _earlier(wished: pd.Timestamp | None, known: pd.Timestamp) -> pd.Timestamp | None:
    """Return from when on to ask so that the answer holds both; None for all there is."""
    return None if wished is None else min(wished, known)


def _refuse_a_later_beginning(held: pd.DataFrame, whole: pd.DataFrame) -> None:
    """Raise FetchError where replacing the held bars would lose the first of them."""
    before, now = held["time"].iloc[0], whole["time"].iloc[0]
    if now > before:
        raise FetchError(
            f"the bars that are there begin {before:%Y-%m-%d}, Yahoo's now begin {now:%Y-%m-%d}",
            fix=MOVE_AWAY,
        )


def _sessions(ticker: Any) -> pd.DataFrame:
    """Return the starts and ends (UTC) of the sessions that came with intraday bars."""
    sessions: pd.DataFrame = ticker.history_metadata["tradingPeriods"][["start", "end"]]
    return pd.DataFrame({name: sessions[name].dt.tz_convert("UTC").astype(TIME_TYPE) for name in sessions})


def _in_bars_format(
    history: pd.DataFrame, sessions: pd.DataFrame | None, order: Order
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return yfinance's table in the bars format: adjusted, in UTC, without an unfinished bar; and notes."""
    rows = history.rename(columns=lambda name: str(name).lower().replace(" ", "_"))
    rows = rows[rows[list(PRICES)].notna().any(axis=1)]  # a dividend on a day without trading is no bar
    local = pd.Series(pd.DatetimeIndex(rows.index), index=rows.index)
    if sessions is None:
        today = order.now.tz_convert(local.dt.tz).tz_localize(None).normalize()
        days = local.dt.tz_localize(None).dt.normalize()
        rows = rows.assign(time=days.dt.tz_localize("UTC").astype(TIME_TYPE))[days < today]
    else:
        rows = _adjusted_for_dividends(rows)
        rows = _with_ends(rows.assign(start=local.dt.tz_convert("UTC").astype(TIME_TYPE)), sessions, order)
    adjusted, jumps = files.adjust(rows.assign(symbol=order.symbol).reset_index(drop=True))
    bars = adjusted.loc[:, list(COLUMNS)].astype(dict.fromkeys((*PRICES, "volume"), np.float64))
    num = len(jumps)
    return bars, (f"{count(num, 'jump')} of the adjustment without one of the price ignored",) if num else ()


def _with_ends(rows: pd.DataFrame, sessions: pd.DataFrame, order: Order) -> pd.DataFrame:
    """Give each bar its end as its time: a session's last bar ends with the session.

    Rows that are no bars are left out: the latest price, which Yahoo appends at its own second, what lies at
    or after the session's end, and what is not over.
    """
    sessions = sessions.drop_duplicates("start").sort_values("start", ignore_index=True)
    place = sessions["start"].searchsorted(rows["start"], side="right") - 1
    session_end = sessions["end"].reindex(place).reset_index(drop=True).set_axis(rows.index)
    full_end = rows["start"] + order.length.length
    is_inside = session_end.notna() & (session_end > rows["start"])
    is_cut_short = is_inside & (session_end < full_end - ROUND_THE_CLOCK)
    time = session_end.where(is_cut_short, full_end)
    is_whole_minute = rows["start"] == rows["start"].dt.floor("min")
    bars: pd.DataFrame = rows.assign(time=time)[is_whole_minute & is_inside & (time <= order.now)]
    return bars


def _adjusted_for_dividends(rows: pd.DataFrame) -> pd.DataFrame:
    """Set the adjusted close of intraday bars: before a dividend it is multiplied by 1 - dividend / close.

    The close is the last before the dividend's date; the factors of all later dividends multiply, as in the
    Center for Research in Security Prices' method, which Yahoo follows for daily bars.
    """
    before = rows["close"].shift()
    factor = (1 - rows["dividends"] / before).where(rows["dividends"] > 0, 1.0).fillna(1.0)
    later = factor[::-1].cumprod()[::-1].shift(-1, fill_value=1.0)
    return rows.assign(adj_close=rows["close"] * later)
