"""What is asked of a source of bars on the internet, what it answers, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd

from stockpred.data.fetch.pacing import Pace


@dataclass(frozen=True)
class BarLength:
    """How long a bar lasts, and its name at the sources: 1d, 1h, 1m."""

    name: str
    length: pd.Timedelta

    @property
    def is_daily(self) -> bool:
        return self.name == "1d"

    def times_of(self, starts: pd.Series) -> pd.Series:
        """Return the times that the bars format gives to bars of these starts: a day's date, else the end."""
        return starts if self.is_daily else starts + self.length

    def end_of(self, time: pd.Timestamp) -> pd.Timestamp:
        """Return when the bar of this time in the bars format is over: where the next one may start."""
        return time + self.length if self.is_daily else time


LENGTHS = {
    name: BarLength(name, pd.Timedelta(length))
    for name, length in (("1d", "1 day"), ("1h", "1 hour"), ("1m", "1 minute"))
}


@dataclass(frozen=True, eq=False)
class Order:
    """The bars wanted of one asset: those that start in [``start``, ``stop``) and are over by ``now``.

    ``start`` None asks for all that the source has. ``held`` are the bars that are there already, in the bars
    format; the answer contains them.
    """

    symbol: str
    name: str
    """The asset's symbol at the source."""
    length: BarLength
    start: pd.Timestamp | None
    stop: pd.Timestamp
    now: pd.Timestamp
    held: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Reply:
    """All bars of an order in the bars format, the held ones among them.

    ``notes`` is what a person should know about them; ``leftovers`` are files that were kept to resume an
    interrupted order, and may go once the bars are stored.
    """

    bars: pd.DataFrame
    notes: tuple[str, ...] = ()
    leftovers: tuple[Path, ...] = ()


class FetchError(Exception):
    """One asset's bars could not be had: why, and what to do about it."""

    def __init__(self, why: str, *, fix: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.fix = fix


class NothingFound(FetchError):
    """Raised where the source answers, and has no bars for the order."""


class SourceStopped(FetchError):
    """Raised where asking the same source for another asset would fail the same way."""


class Source(Protocol):
    """A source of bars, opened for one run of the command."""

    library: str
    """The name and version of the library that reads it."""

    def bars(self, order: Order) -> Reply:
        """Return the bars of an order; raise FetchError where they cannot be had."""
        ...

    def close(self) -> None:
        """Give back connections and temporary files."""
        ...


class Watcher(Protocol):
    """Whoever follows a fetch."""

    def starting(self, asset: str) -> None:
        """Take which asset's turn it is, such as ``[3/20] BTC``."""
        ...

    def doing(self, what: str) -> None:
        """Take what is being done right now."""
        ...

    def waiting(self, why: str) -> None:
        """Take why nothing happens for a while."""
        ...


@dataclass(frozen=True)
class Opening:
    """What a source is opened with: its address, how often it may be asked, where it may keep files."""

    base_url: str
    pace: Pace
    folder: Path
    watcher: Watcher


def host_unreachable(base_url: str, error: Exception) -> SourceStopped:
    """Return the failure of a source to which no connection can be made."""
    return SourceStopped(
        f"cannot reach {base_url}: {_reason(error)}",
        fix="compute nodes often have no internet: fetch on the login node; behind a proxy set HTTPS_PROXY",
    )


def too_many_requests(base_url: str) -> SourceStopped:
    """Return the failure of a source that goes on refusing requests as too many."""
    return SourceStopped(
        f"{base_url} refuses more requests for now",
        fix="run the same command again later, with a smaller --per-minute; what was fetched is kept",
    )


def _reason(error: BaseException) -> str:
    """Return the innermost cause's own words: libraries wrap them in their own."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.partition(". See ")[0]  # curl adds where its error codes are explained
