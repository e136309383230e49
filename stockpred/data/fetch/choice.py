"""Which source each asset's bars come from, and whether what is wished can be fetched into a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from hpc.base.errors import UserError, raise_all
from hpc.base.text import suggestion
from stockpred.config import registry
from stockpred.data.fetch.folder import Folder, Origin
from stockpred.data.universe import Asset, Universe

SOURCES = "stockpred.data.fetch.sources"
AUTO = "auto"


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line; ``None`` leaves the choice to the source."""

    interval: str = "1d"
    source: str = AUTO
    start: pd.Timestamp | None = None
    stop: pd.Timestamp | None = None
    """Bars that start before it; UTC."""
    per_minute: float | None = None
    retries: int = 5
    base_url: str | None = None


@dataclass(frozen=True)
class Task:
    """One asset, the source that it comes from (None: none has it), and what is in the folder already."""

    asset: Asset
    source: str | None
    origin: Origin | None

    @property
    def name(self) -> str:
        """The asset's symbol at its source."""
        return "" if self.source is None else name_at(self.asset, self.source)


def wishes_of(first: datetime | None, last: datetime | None, **options: Any) -> Wishes:
    """Return the wishes for bars from a first to a last date (UTC); raise UserError for all that is wrong."""
    start = None if first is None else pd.Timestamp(first, tz="UTC")
    stop = None if last is None else pd.Timestamp(last, tz="UTC") + pd.Timedelta(days=1)
    wishes = Wishes(start=start, stop=stop, **options)
    raise_all(list(_problems(wishes)))
    return wishes


def _problems(wishes: Wishes) -> Iterator[UserError]:
    if wishes.start is not None and wishes.stop is not None and wishes.start >= wishes.stop:
        yield UserError("the first date lies after the last", where="--from", fix="exchange --from and --to")
    if wishes.start is not None and wishes.start > pd.Timestamp.now("UTC"):
        yield UserError("the first date lies in the future", where="--from", fix="correct it")
    if wishes.source not in (AUTO, *source_names()):
        known = (AUTO, *source_names())
        what = f"there is no source {wishes.source!r}"
        yield UserError(what, where="--source", fix=suggestion(wishes.source, known))
    address = urlsplit(wishes.base_url or "https://x")
    if address.scheme not in ("http", "https") or not address.netloc:
        what = f"{wishes.base_url!r} is no address"
        yield UserError(what, where="--base-url", fix="write it as https://HOST, or https://HOST/PATH")


def source_names() -> tuple[str, ...]:
    """Return the sources that can be chosen."""
    return registry.names(SOURCES)


def tasks_of(assets: Universe, folder: Folder, wishes: Wishes) -> list[Task]:
    """Choose each asset's source; raise UserError for all that cannot work."""
    problems: list[UserError] = []
    found: list[Task] = []
    for asset in assets.assets:
        try:
            origin = folder.origin_of(asset.symbol)
        except UserError as error:
            problems.append(error)
            continue
        found.append(Task(asset, _source_of(asset, origin, wishes), origin))
        problems += _contradictions(found[-1], folder, wishes)
    raise_all([*problems, *_clashes(assets, folder), *_wrong_wishes(found, wishes)])
    return found


def _source_of(asset: Asset, origin: Origin | None, wishes: Wishes) -> str | None:
    """Return the source that was chosen, that the asset's file came from, or that comes first by its rank."""
    if wishes.source != AUTO:
        return wishes.source if name_at(asset, wishes.source) else None
    if origin is not None:
        return origin.source
    having = [name for name in source_names() if name_at(asset, name)]
    return min(having, key=lambda name: int(registry.declared(SOURCES, name, "AUTO_RANK")), default=None)


def name_at(asset: Asset, source: str) -> str:
    """Return the asset's symbol at a source: the universe's column of that name."""
    return str(getattr(asset, source, ""))


def _contradictions(task: Task, folder: Folder, wishes: Wishes) -> list[UserError]:
    """Return why a file that is there cannot be continued."""
    origin, where = task.origin, str(folder.path_of(task.asset.symbol))
    if origin is None or task.source is None:
        return []
    there = (origin.source, origin.symbol_there, origin.interval)
    asked = (task.source, task.name, wishes.interval)
    if there == asked:
        return []
    what = "holds {2} bars of {1} from {0}".format(*there) + ", asked are {2} bars of {1} from {0}".format(
        *asked
    )
    return [UserError(what, where=where, fix="choose another folder with --out, or move the file away")]


def _clashes(assets: Universe, folder: Folder) -> list[UserError]:
    """Return an error for symbols whose files differ by case alone."""
    folded: dict[str, str] = {}
    found = []
    for symbol in assets.symbols:
        other = folded.setdefault(folder.path_of(symbol).name.casefold(), symbol)
        if other != symbol:
            what = f"{other} and {symbol} would share one file where case does not count"
            found.append(
                UserError(what, where=str(folder.root), fix="fetch them into two folders (--symbols)")
            )
    return found


def _wrong_wishes(tasks: Sequence[Task], wishes: Wishes) -> Iterator[UserError]:
    used = sorted({task.source for task in tasks if task.source is not None})
    for name in used:
        offered = registry.declared(SOURCES, name, "INTERVALS")
        if wishes.interval not in offered:
            what = f"{name} has no {wishes.interval} bars"
            yield UserError(what, where="--interval", fix=f"use one of: {', '.join(offered)}")
    if wishes.base_url is not None and len(used) > 1:
        what = f"one address for {' and '.join(used)}"
        yield UserError(what, where="--base-url", fix="choose one of them with --source")
