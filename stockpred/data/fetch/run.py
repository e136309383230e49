"""Fetch the bars of a universe's assets into a folder, one asset after the other, and say how each went."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final

import pandas as pd

from hpc.base.errors import ExitCode, UserError
from hpc.base.text import count
from stockpred.config import registry
from stockpred.data.fetch.choice import AUTO, SOURCES, Task, Wishes, tasks_of
from stockpred.data.fetch.folder import Folder, Origin
from stockpred.data.fetch.order import (
    LENGTHS,
    BarLength,
    FetchError,
    Opening,
    Order,
    Source,
    SourceStopped,
    Watcher,
)
from stockpred.data.fetch.pacing import Pace
from stockpred.data.universe import Universe

SETTLES: Final = pd.Timedelta("7 days")
"""What a source has not published after this long it will not publish."""


@dataclass(frozen=True)
class Result:
    """How one asset went: its ``number`` of ``total``, and what a person should read about it."""

    number: int
    total: int
    symbol: str
    text: str
    failure: FetchError | None = None

    def __str__(self) -> str:
        return f"[{self.number}/{self.total}] {self.symbol}: {self.text}"


@dataclass
class _Sources:
    """The sources of one fetch: opened when first needed, left alone once they have stopped."""

    wishes: Wishes
    folder: Folder
    watcher: Watcher
    opened: dict[str, Source] = field(default_factory=dict)
    stopped: dict[str, SourceStopped] = field(default_factory=dict)

    def get(self, name: str) -> Source:
        if name in self.stopped:
            raise self.stopped[name]
        if name not in self.opened:
            module = _load(name)
            pace = Pace(
                self.wishes.per_minute or module.PER_MINUTE, self.wishes.retries, self.watcher.waiting
            )
            base_url = (self.wishes.base_url or module.BASE_URL).rstrip("/")
            opening = Opening(base_url, pace, self.folder.work, self.watcher)
            self.opened[name] = module.open_source(opening)
        return self.opened[name]

    def close(self) -> None:
        for source in self.opened.values():
            source.close()


def fetch(
    assets: Universe,
    out_dir: Path,
    wishes: Wishes,
    *,
    watcher: Watcher,
    now: pd.Timestamp | None = None,
) -> Iterator[Result]:
    """Fetch what the folder lacks of each asset's bars; yield how each asset went, once its file is whole.

    Raises UserError before anything is asked of a source where the wishes contradict each other or the
    folder, or another fetch is at work there.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise UserError("is a file, not a folder", where=str(out_dir), fix="give --out another name")
    now = now or pd.Timestamp.now("UTC")
    folder = Folder(out_dir)
    with folder.locked():
        tasks = tasks_of(assets, folder, wishes)
        for name in sorted({task.source for task in tasks if task.source is not None}):
            _load(name)  # a library that is missing is better known before the first hour
        folder.list_files()
        with contextlib.closing(_Sources(wishes, folder, watcher)) as sources:
            for number, task in enumerate(tasks, start=1):
                watcher.starting(f"[{number}/{len(tasks)}] {task.asset.symbol}")
                text, failure = _tried(task, folder, sources, now)
                yield Result(number, len(tasks), task.asset.symbol, text, failure)


def _tried(task: Task, folder: Folder, sources: _Sources, now: pd.Timestamp) -> tuple[str, FetchError | None]:
    """Complete one asset's file; return what a person should read about it, and why it failed if it did."""
    try:
        return _bring(task, folder, sources, now), None
    except SourceStopped as error:
        if error in sources.stopped.values():
            return f"failed: not asked, {task.source} has stopped", error
        sources.stopped[str(task.source)] = error
        return f"failed: {error.why}", error
    except FetchError as error:
        return f"failed: {error.why}", error


def _load(name: str) -> ModuleType:
    """Import a source; raise UserError where its library is not installed."""
    try:
        return registry.load(SOURCES, name, where="--source")
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed, which {name} is read with",
            fix="pip install 'stockpred[fetch]'",
            exit_code=ExitCode.FAILED,
        ) from error


def _bring(task: Task, folder: Folder, sources: _Sources, now: pd.Timestamp) -> str:
    """Complete one asset's file; return what a person should read about it."""
    wishes, origin = sources.wishes, task.origin
    if task.source is None:
        place = "any source" if wishes.source == AUTO else wishes.source
        fix = "fill its column; or add a file of its bars yourself; or take it out of the universe"
        raise FetchError(f"the universe names no symbol at {place}", fix=fix)
    length = LENGTHS[wishes.interval]
    stop = min(wishes.stop or now, now)
    start = _first_missing(origin, wishes.start, length)
    if origin is not None and start is not None and start + length.length > stop:
        return f"nothing is missing; {_summary(origin)}"
    source = sources.get(task.source)
    held = None if origin is None else folder.bars_of(task.asset.symbol)
    order = Order(task.asset.symbol, task.name, length, start, stop, now, held)
    reply = source.bars(order)
    updated = _origin(task, order, reply.bars, wishes, source.library)
    is_same = held is not None and reply.bars.equals(held)
    if origin is None or not is_same or updated.asked_from != origin.asked_from:
        folder.store(reply.bars, updated)
    for path in reply.leftovers:
        path.unlink(missing_ok=True)
    num_new = len(reply.bars) - (0 if held is None else len(held))
    return "; ".join([f"{count(num_new, 'new bar')}, {_summary(updated)}", *reply.notes])


def _first_missing(
    origin: Origin | None, start: pd.Timestamp | None, length: BarLength
) -> pd.Timestamp | None:
    """Return from when on bars are to be fetched: None for all that there are."""
    if origin is None:
        return start
    if origin.asked_from is not None and (start is None or start < pd.Timestamp(origin.asked_from)):
        return start
    return max(length.end_of(pd.Timestamp(origin.last)), pd.Timestamp(origin.settled))


def _origin(task: Task, order: Order, bars: pd.DataFrame, wishes: Wishes, library: str) -> Origin:
    """Describe the bars that were fetched."""
    asked = wishes.start
    if task.origin is not None:
        before = None if task.origin.asked_from is None else pd.Timestamp(task.origin.asked_from)
        asked = None if before is None or asked is None else min(before, asked)
    return Origin(
        symbol=task.asset.symbol,
        source=str(task.source),
        symbol_there=task.name,
        interval=wishes.interval,
        first=bars["time"].iloc[0].isoformat(),
        last=bars["time"].iloc[-1].isoformat(),
        rows=len(bars),
        asked_from=None if asked is None else asked.isoformat(),
        settled=min(order.stop, order.now - SETTLES).floor("s").isoformat(),
        retrieved=order.now.floor("s").isoformat(),
        library=library,
    )


def _summary(origin: Origin) -> str:
    there = f"{origin.source} {origin.symbol_there}"
    return f"{count(origin.rows, 'bar')}, {origin.first[:10]} to {origin.last[:10]} ({there})"
