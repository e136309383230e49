"""The folder of fetched bars: one Parquet file per asset, and ``fetched.json`` about all of them.

What is known about a file's origin stands in the file itself (the metadata of its schema), so that bars and
origin change together, by one rename; ``fetched.json`` is written from it. ``.fetch/`` holds the lock, and
what an interrupted fetch goes on from.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from stockpred.data.bars import TIME_TYPE
from stockpred.data.formats.names import file_name

LISTING = "fetched.json"
WORK = ".fetch"
ORIGIN = b"stockpred.fetched"
ENDING = ".parquet"
WHEN_REFUSED = "check the folder, its permissions and free space; what was written before is whole"


@dataclass(frozen=True)
class Origin:
    """Where an asset's file comes from; times are ISO 8601 in UTC, ``first`` and ``last`` as in the bars.

    ``asked_from`` is the earliest start that was asked for, None where all was; up to ``settled`` the source
    will have nothing that is not in the file.
    """

    symbol: str
    source: str
    symbol_there: str
    interval: str
    first: str
    last: str
    rows: int
    asked_from: str | None
    settled: str
    retrieved: str
    library: str


class Folder:
    """A folder of fetched bars."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / WORK
        self._listed: dict[str, dict[str, Any]] = {}

    def path_of(self, symbol: str) -> Path:
        return self.root / file_name(symbol, ENDING)

    def origin_of(self, symbol: str) -> Origin | None:
        """Return the origin of an asset's file, None where there is none.

        Raises UserError for a file that was not written by a fetch, or is damaged.
        """
        path = self.path_of(symbol)
        if not path.exists():
            return None
        try:
            return Origin(**json.loads((pq.read_schema(path).metadata or {}).get(ORIGIN, b"null")))
        except (pa.ArrowException, OSError):
            raise _damaged(path) from None
        except (TypeError, ValueError):
            what, fix = "was not written by `stockpred data fetch`", "choose another folder with --out"
            raise UserError(what, where=str(path), fix=fix) from None

    def bars_of(self, symbol: str) -> pd.DataFrame:
        path = self.path_of(symbol)
        try:
            bars: pd.DataFrame = pq.read_table(path).to_pandas()
        except (pa.ArrowException, OSError):
            raise _damaged(path) from None
        return bars.assign(time=bars["time"].astype(TIME_TYPE), symbol=bars["symbol"].astype(str))

    def store(self, bars: pd.DataFrame, origin: Origin) -> None:
        """Replace an asset's file, whole or not at all."""
        table = pa.Table.from_pandas(bars, preserve_index=False)
        table = table.replace_schema_metadata({**table.schema.metadata, ORIGIN: json.dumps(asdict(origin))})
        content = io.BytesIO()
        pq.write_table(table, content, compression="zstd")
        path = self.path_of(origin.symbol)
        with records.writing(path, fix=WHEN_REFUSED):
            records.write_bytes(path, content.getvalue())
        self._listed[origin.symbol] = _row(origin, path, {})
        self._write_listing()

    def list_files(self) -> None:
        """Make ``fetched.json`` agree with the files: it may lack the last one of a fetch that was killed."""
        known = (records.read_json_if_any(self.root / LISTING) or {}).get("assets", {})
        self._listed = {}
        for path in sorted(self.root.glob(f"*{ENDING}")):
            with contextlib.suppress(pa.ArrowException, OSError):
                content = (pq.read_schema(path).metadata or {}).get(ORIGIN)
                if content is not None:
                    origin = Origin(**json.loads(content))
                    self._listed[origin.symbol] = _row(origin, path, known.get(origin.symbol, {}))
        self._write_listing()

    def _write_listing(self) -> None:
        listing = self.root / LISTING
        with records.writing(listing, fix=WHEN_REFUSED):
            records.write_json(listing, {"assets": dict(sorted(self._listed.items()))})

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder for one fetch; raise UserError where another works in it."""
        with records.writing(self.work, fix="choose a folder that you may write into with --out"):
            self.work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.work / "lock", timeout=0)
        holder = self.work / "holder.json"
        try:
            lock.acquire()
        except Timeout:
            row = records.read_json_if_any(holder) or {}
            who = f" (process {row['pid']} on {row['host']})" if {"pid", "host"} <= row.keys() else ""
            raise UserError(
                f"another fetch is at work in this folder{who}",
                where=str(self.root),
                fix="wait for it, or choose another folder with --out",
                exit_code=ExitCode.REFUSED,
            ) from None
        try:
            records.write_json(holder, {"pid": os.getpid(), "host": socket.gethostname()})
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def _row(origin: Origin, path: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Return what is listed of a file; the sha256 that is known of this very origin is not computed again."""
    row = {**asdict(origin), "file": path.name}
    if known == {**row, "sha256": known.get("sha256")}:
        return known
    with path.open("rb") as file:
        return {**row, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _damaged(path: Path) -> UserError:
    return UserError("is damaged", where=str(path), fix="move it away: it is then fetched again")
