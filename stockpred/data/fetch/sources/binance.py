"""Binance's public archives of spot prices: a zip per symbol and month, one per day until that is out.

No key is needed. Addresses: BASE/data/spot/monthly/klines/BTCUSDT/1d/BTCUSDT-1d-2024-01.zip, the same with
``daily`` and a date, and each again with .CHECKSUM behind it. Coins are not adjusted: they pay no dividends.

Known about the archives, from the issues of the repository binance-public-data: a month's file comes out in
the first days of the next month, at times weeks late (#321); it may lack whole days that the daily files have
(#253, #320, #359); some files do not match their checksums (#405).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd
import requests

from hpc.base import records
from hpc.base.errors import UserError
from hpc.base.text import count
from stockpred.data import bars as bar_table
from stockpred.data.fetch import klines, tables
from stockpred.data.fetch.order import (
    FetchError,
    NothingFound,
    Opening,
    Order,
    Reply,
    host_unreachable,
    too_many_requests,
)
from stockpred.data.fetch.pacing import TOO_MANY, is_busy

BASE_URL = "https://data.binance.vision"
INTERVALS = ("1d", "1h", "1m")
PER_MINUTE = 600
AUTO_RANK = 1
"""Which source is taken where an asset has a symbol at several: the one of the lowest rank."""

FIRST_MONTH: Final = pd.Timestamp("2017-07-01", tz="UTC")
"""Binance opened in July 2017; no archive is older."""
LATE: Final = pd.Timedelta("62 days")
"""A month's file that is missing for longer than this will not come."""
MAX_GAP_MONTHS = 3
"""So many months without a file before the ones that have one: the asset was not listed yet."""
TIMEOUT_S = (20, 120)


def open_source(opening: Opening) -> Binance:
    return Binance(opening)


@dataclass
class _Found:
    """The archives found for an order, newest first."""

    months: list[pd.DataFrame] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)
    """Copies on disk, from which an interrupted order goes on."""
    gaps: list[str] = field(default_factory=list)
    """Months without an archive between months that have one."""
    num_filled: int = 0
    """Days that a month's file lacks and a day's file has."""

    def notes(self, *, num_repeats: int) -> Iterator[str]:
        if self.gaps:
            yield f"no archive for {', '.join(sorted(self.gaps))}"
        if self.num_filled:
            yield f"{count(self.num_filled, 'day')} that the monthly archives lack taken from daily ones"
        if num_repeats:
            yield f"{count(num_repeats, 'repeated or misplaced bar')} put right"


class Binance:
    """The archives, read over one connection."""

    def __init__(self, opening: Opening) -> None:
        self.library = f"requests {requests.__version__}"
        self._opening = opening
        self._session = requests.Session()

    def close(self) -> None:
        self._session.close()

    def bars(self, order: Order) -> Reply:
        """Return the bars of an order; raise FetchError where an archive is broken, or there is none."""
        found = _Found()
        self._search(order, found)
        months = found.months[::-1] or [klines.no_bars(order.symbol, order.length)]
        try:
            new, repeats = bar_table.tidy(pd.concat(months, ignore_index=True))
        except UserError as error:
            raise FetchError(f"Binance's archives of {order.name}: {error.what}") from error
        bars = tables.joined(order.held, tables.wanted(new, order))
        if bars.empty:
            raise NothingFound(
                f"Binance has no {order.length.name} bars of {order.name} in this time",
                fix="check the symbol in the universe's column `binance`; --from and --to",
            )
        return Reply(bars, tuple(found.notes(num_repeats=len(repeats))), tuple(found.copies))

    def _search(self, order: Order, found: _Found) -> None:
        """Look for the order's months from the newest to the first that has an archive."""
        missing: list[str] = []
        for month in _months_backward(order):
            bars = self._month(order, month, found)
            if bars is not None:
                found.months.append(bars)
                found.gaps += missing
                missing = []
            elif found.months:  # months after the asset was delisted, or not out yet, are no gap
                missing.append(f"{month:%Y-%m}")
            if len(missing) > MAX_GAP_MONTHS:
                return

    def _month(self, order: Order, month: pd.Timestamp, found: _Found) -> pd.DataFrame | None:
        """Return the bars of a month's file, and those of the daily files for days that it lacks."""
        end = month + pd.offsets.MonthBegin()
        part = self._archive(order, "monthly", f"{month:%Y-%m}", found) if end <= order.now else None
        if part is None and order.now - end > LATE:
            return None
        days = _days(max(month, order.start or month), min(end, order.stop))
        if part is not None:
            days = _lacking(days, part, order)
        daily = [self._archive(order, "daily", f"{day:%Y-%m-%d}", found) for day in days]
        there = [bars for bars in daily if bars is not None]
        if part is None:
            return pd.concat(there, ignore_index=True) if there else None
        if not there:
            return part
        found.num_filled += len(there)
        return pd.concat([part, *there], ignore_index=True).sort_values("time", kind="stable")

    def _archive(self, order: Order, kind: str, label: str, found: _Found) -> pd.DataFrame | None:
        """Return the bars of one archive, read from its copy if there is one; None without archive."""
        length = order.length.name
        name = f"{order.name}-{length}-{label}.zip"
        copy = self._opening.folder / name
        self._opening.watcher.doing(name)
        if copy.is_file():
            content: bytes | None = copy.read_bytes()
        else:
            content = self._verified(f"/data/spot/{kind}/klines/{order.name}/{length}/{name}", name)
        if content is None:
            return None
        bars = klines.read(content, name, order.symbol, order.length)
        if not copy.is_file():
            with records.writing(copy, fix="check the folder, its permissions and free space"):
                records.write_bytes(copy, content)
        found.copies.append(copy)
        return bars

    def _verified(self, path: str, name: str) -> bytes | None:
        """Return a file that agrees with its checksum, fetched twice if need be; None where there is none."""
        for _ in range(2):
            content = self._content(path)
            if content is None:
                return None
            checksum = self._content(path + ".CHECKSUM")
            if checksum is None:
                raise FetchError(f"{name} has no .CHECKSUM file beside it")
            if klines.has_checksum(content, klines.checksum_in(checksum, f"{name}.CHECKSUM")):
                return content
        raise FetchError(
            f"the checksum of {name} is wrong, also when fetched again",
            fix="Binance mends such files at times: try on another day, or leave its dates out (--from)",
        )

    def _content(self, path: str) -> bytes | None:
        """Return what lies at an address; None where nothing does."""
        url = self._opening.base_url + path
        try:
            answer = self._opening.pace.ask(lambda: self._session.get(url, timeout=TIMEOUT_S))
        except OSError as error:
            raise host_unreachable(self._opening.base_url, error) from error
        if answer.status_code == requests.codes.not_found:
            return None
        if answer.status_code in TOO_MANY:
            raise too_many_requests(self._opening.base_url)
        if answer.status_code != requests.codes.ok:
            fix = "try again later" if is_busy(answer.status_code) else "open the address in a browser"
            raise FetchError(f"{url} answers {answer.status_code} {answer.reason}", fix=fix)
        return answer.content


def _months_backward(order: Order) -> Iterator[pd.Timestamp]:
    """Yield the first days of the order's months, newest first."""
    first = max(order.start or FIRST_MONTH, FIRST_MONTH)
    month = (order.stop - pd.Timedelta(1, unit="ns")).normalize().replace(day=1)
    while month + pd.offsets.MonthBegin() > first:
        yield month
        month -= pd.offsets.MonthBegin()


def _lacking(days: list[pd.Timestamp], part: pd.DataFrame, order: Order) -> list[pd.Timestamp]:
    """Return the days after a file's first bar on which it has no bar."""
    starts, _ = tables.spans(part["time"], order.length)
    there = set(starts.dt.normalize())
    return [day for day in days if day not in there and (not there or day > min(there))]


def _days(start: pd.Timestamp, stop: pd.Timestamp) -> list[pd.Timestamp]:
    return list(pd.date_range(start.normalize(), stop - pd.Timedelta(1, unit="ns"), freq="D"))
