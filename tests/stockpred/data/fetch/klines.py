"""Archives as Binance publishes them, made by hand from the README of its repository binance-public-data."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence

import pandas as pd

from tests.stockpred.data.fetch.conftest import LocalServer, Page

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)


def line(start: pd.Timestamp, close: float, *, seconds: int = 86400, unit: int = 10**3) -> str:
    """Return one bar; ``unit`` is how many of the file's time steps make a second."""
    opened = int(start.timestamp()) * unit
    closed = opened + seconds * unit - 1
    prices = f"{close - 1:.8f},{close + 2:.8f},{close - 3:.8f},{close:.8f}"
    return f"{opened},{prices},10.50000000,{closed},1000.00000000,42,5.0,500.0,0"


def lines(first: str, closes: Sequence[float], *, seconds: int = 86400, unit: int = 10**3) -> list[str]:
    """Return bars that follow each other."""
    starts = pd.date_range(first, periods=len(closes), freq=f"{seconds}s", tz="UTC")
    return [
        line(start, close, seconds=seconds, unit=unit) for start, close in zip(starts, closes, strict=True)
    ]


def zipped(rows: Sequence[str], name: str = "rows.csv") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, "".join(f"{row}\n" for row in rows))
    return content.getvalue()


def path_of(symbol: str, interval: str, label: str) -> str:
    kind = "monthly" if len(label) == len("2024-01") else "daily"
    return f"/data/spot/{kind}/klines/{symbol}/{interval}/{symbol}-{interval}-{label}.zip"


def publish(
    server: LocalServer,
    label: str,
    rows: Sequence[str] | bytes,
    *,
    symbol: str = "BTCUSDT",
    interval: str = "1d",
) -> str:
    """Put an archive and its checksum on the server; return its path."""
    content = rows if isinstance(rows, bytes) else zipped(rows)
    path = path_of(symbol, interval, label)
    server.pages[path] = [Page(content)]
    server.pages[path + ".CHECKSUM"] = [Page(checksum(content, path))]
    return path


def checksum(content: bytes, path: str) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {path.rpartition('/')[2]}\n".encode()
