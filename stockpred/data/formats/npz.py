"""Bars of one asset in one ``.npz`` file, as ``numpy.savez`` writes it.

Arrays of one length N, one number per bar, in any order of time:

time       datetime64, int64 nanoseconds since 1970 UTC, or ISO text; daily bars: the date at 00:00
close      numbers; NaN = unknown: the bar is left out and reported, as in a CSV
open, high, low   numbers; all three or none
volume     numbers, if any; NaN = unknown
adj_close  numbers, if any; the prices are then adjusted by adj_close / close
symbol     one text (a scalar), if any; else the file's name without its ending is the symbol

Without open, high and low the file has closes only. Each of the three is then set to the close, since a bar
with a missing price would be left out. The finding ``closes_only`` records that these are no true candles;
choose ``close`` as the only feature.

Arrays of objects are refused: reading them means unpickling, which runs code from the file.
"""

from __future__ import annotations

import difflib
import io
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from hpc.base.errors import UserError
from stockpred.data import bars as bar_table
from stockpred.data.formats.columns import ALIASES, CANDLE, BarFile, NotBars

ENDING = ".npz"
NEEDED = ("time", "close")
NUMBERS = (*bar_table.PRICES, "volume", "adj_close")
SIMILAR = 0.8  # a key as near as this to a known one that is absent is a typing error
NEAR_1970_NS = 60 * 86400 * 10**9  # microseconds of our days, read as nanoseconds, fall within 42 days
MINUTE_NS = 60 * 10**9
OLDEST_NUMBER = "1900-01-01"
NS_HOLDS = ("1678-01-01", "2262-01-01")
DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError)
HOW_TO_WRITE = (
    "numpy.savez(path, time=..., open=..., high=..., low=..., close=..., volume=...), "
    "one array of shape (N,) each and one asset per file"
)
HOW_TO_WRITE_TIME = (
    "save time as datetime64, as int64 nanoseconds since 1970 UTC (seconds * 10**9), or as ISO text"
)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Head:
    """Shape and type of an array, as the header of its file states them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def survey(path: Path, stem: str) -> BarFile:
    """Return which bars the file has, by its arrays' headers alone; raise NotBars for one without bars."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            heads = _heads(archive)
            _refuse_wrong(heads)
            symbol = _symbol(archive) if "symbol" in heads else stem
    except PermissionError:
        raise
    except DAMAGED as error:
        raise _not_readable(path, error) from None
    if not symbol:
        raise NotBars("symbol is empty", fix="write the asset's symbol, or leave the key out")
    columns = {name: name for name in ("time", *NUMBERS) if name in heads}
    columns = dict.fromkeys(CANDLE, "close") | columns
    return BarFile(path, (symbol,), {symbol: columns}, is_long=False)


def fetch(path: Path, needed: Collection[str]) -> pa.Table:
    """Return the arrays as columns, times in ns; raise UserError for times in a wrong unit."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in needed}
    except DAMAGED as error:
        problem = _not_readable(path, error)
        raise UserError(str(problem), where=str(path), fix=problem.fix) from error
    if np.isnan(found["close"]).all():
        raise UserError("no close is known: all are NaN", where=str(path), fix="write numbers into close")
    return pa.table(
        {name: _times(path, values) if name == "time" else _floats(values) for name, values in found.items()}
    )


def to_bytes(bars: pd.DataFrame, symbol: str, *, closes_only: bool) -> bytes:
    """Return one asset's bars as the content of a file; equal bars give equal bytes.

    Open, high and low of ``closes_only`` bars are left out, and so is a volume that is unknown throughout.
    """
    prices = ("close",) if closes_only else bar_table.PRICES
    names = prices if bars["volume"].isna().all() else (*prices, "volume")
    arrays: dict[str, Array] = {"symbol": np.array(symbol)}
    arrays["time"] = bar_table.times_ns(bars).view("datetime64[ns]")
    arrays |= {name: bars[name].to_numpy(np.float64) for name in names}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _heads(archive: zipfile.ZipFile) -> dict[str, _Head]:
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    return {name.removesuffix(".npy"): _head(archive, name) for name in names}


def _head(archive: zipfile.ZipFile, name: str) -> _Head:
    with archive.open(name) as member:
        is_oldest = np.lib.format.read_magic(member) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_oldest else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    return _Head(shape, dtype)


def _symbol(archive: zipfile.ZipFile) -> str:
    with archive.open("symbol.npy") as member:
        return str(np.lib.format.read_array(member, allow_pickle=False).astype(str)).strip()


def _not_readable(path: Path, error: BaseException) -> NotBars:
    with path.open("rb") as file:
        begin = file.read(2)
    if not begin:
        return NotBars("it is empty", fix=f"write it again: {HOW_TO_WRITE}")
    if begin != b"PK":
        return NotBars("it is not an .npz file, which is a zip of arrays", fix=f"write {HOW_TO_WRITE}")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    what = f"cannot be read: the zip is damaged or cut short ({reason})"
    return NotBars(what, fix="copy or write the file again")


def _refuse_wrong(heads: Mapping[str, _Head]) -> None:
    """Raise NotBars with everything that is wrong by the arrays' headers."""
    problems = _key_problems(heads) + [
        problem for name in sorted(heads) if (problem := _array_problem(name, heads[name]))
    ]
    if not problems:
        problems = _length_problems(heads)
    if problems:
        raise NotBars("; ".join(problems), fix=f"write {HOW_TO_WRITE}")


def _key_problems(heads: Mapping[str, _Head]) -> list[str]:
    has = ", ".join(sorted(heads)) or "nothing"
    missing = [name for name in NEEDED if name not in heads]
    if any(name in heads for name in CANDLE):
        missing += [name for name in CANDLE if name not in heads]
    problems = [f"it has no {', '.join(missing)} (it has {has})"] if missing else []
    absent = [name for name in ("time", *NUMBERS, "symbol") if name not in heads]
    for key in sorted(heads.keys() - {"time", *NUMBERS, "symbol"}):
        meant = _intended(key, absent)
        problems += [f"key {key!r} is not known: did you mean {meant!r}?"] if meant else []
    return problems


def _intended(key: str, absent: Collection[str]) -> str | None:
    """Return the absent key that ``key`` is another name of, or a misspelling.

    A text called name or ticker may hold anything, so ``symbol`` has no other names.
    """
    names = {alias: name for name in absent for alias in (ALIASES[name] if name != "symbol" else (name,))}
    near = difflib.get_close_matches(key.strip().casefold(), names, n=1, cutoff=SIMILAR)
    return names[near[0]] if near else None


def _array_problem(name: str, head: _Head) -> str | None:
    kinds = {"symbol": ("US", "a text"), "time": ("MiuUS", "datetime64, int64 ns or ISO text")}
    if name not in (*kinds, *NUMBERS):
        return None
    wanted, meant = kinds.get(name, ("fiu", "numbers"))
    shape = () if name == "symbol" else (-1,)
    if head.dtype.hasobject:
        return f"{name} is an array of objects, which would have to be unpickled; expected {meant}"
    if head.dtype.kind not in wanted:
        return f"{name} is {_called(head.dtype)}, expected {meant}"
    if len(head.shape) != len(shape):
        return f"{name} has shape {head.shape}, expected {'()' if name == 'symbol' else '(N,)'}"
    return None


def _called(dtype: np.dtype[Any]) -> str:
    return "text" if dtype.kind in "US" else str(dtype)


def _length_problems(heads: Mapping[str, _Head]) -> list[str]:
    shapes = {name: heads[name].shape for name in ("time", *NUMBERS) if name in heads}
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if len(set(shapes.values())) > 1:
        return [f"its arrays differ in length: {listed}; expected one length N for all"]
    return ["its arrays are empty"] if shapes["time"] == (0,) else []


def _floats(values: Array) -> npt.NDArray[np.float64]:
    return values.astype(np.float64)


def _times(path: Path, values: Array) -> pa.Array:
    """Return timestamps in ns, null for NaT; or text, which is read like that of a CSV."""
    if values.dtype.kind in "US":
        return pa.array([str(text) for text in values.astype(str)], pa.string())
    if values.dtype.kind == "M":
        _refuse_beyond_ns(path, values)
    known = values.astype("datetime64[ns]" if values.dtype.kind == "M" else np.int64)
    ns = known.view("datetime64[ns]")
    _refuse_wrong_unit(path, ns, is_number=values.dtype.kind != "M")
    return pa.array(ns, pa.timestamp("ns"))


def _refuse_wrong_unit(path: Path, ns: Array, *, is_number: bool) -> None:
    """Raise UserError for times within weeks of 1970 or numbers from before 1900: they count another unit.

    Bars that are really from 1970 are at whole minutes; seconds of today, read as nanoseconds, are not.
    """
    known = ns[~np.isnat(ns)].astype(np.int64)
    if not len(known):
        return
    is_crowded = np.abs(known).max() < NEAR_1970_NS and (known % MINUTE_NS).any()
    if is_crowded or (is_number and known.min() < pd.Timestamp(OLDEST_NUMBER).value):
        first, last = (
            pd.Timestamp(int(at)).isoformat(timespec="seconds") for at in (known.min(), known.max())
        )
        what = f"time goes from {first} to {last} as nanoseconds since 1970; it seems to count another unit"
        raise UserError(what, where=str(path), fix=HOW_TO_WRITE_TIME)


def _refuse_beyond_ns(path: Path, values: Array) -> None:
    """Raise UserError for dates that int64 nanoseconds cannot hold: numpy would wrap them around silently."""
    days = values.astype("datetime64[D]")
    oldest, newest = NS_HOLDS
    beyond = np.flatnonzero((days < np.datetime64(oldest)) | (days > np.datetime64(newest)))
    if len(beyond):
        what = f"time[{beyond[0]}] is {days[beyond[0]]}, expected dates from {oldest} to {newest}"
        raise UserError(what, where=str(path), fix=HOW_TO_WRITE_TIME)
