"""What is known of a file with bars before it is read, and what its columns may be called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ALIASES: Mapping[str, tuple[str, ...]] = {
    "time": ("time", "ts", "timestamp", "date", "datetime", "open_time", "index", "__index_level_0__", ""),
    "symbol": ("symbol", "asset", "ticker", "instrument", "name"),
    "open": ("open", "opening_price", "o"),
    "high": ("high", "max", "h"),
    "low": ("low", "min", "l"),
    "close": ("close", "close_last", "closing_price", "last", "c"),
    "adj_close": ("adj_close", "adjclose", "adjusted_close", "close_adj"),
    "volume": ("volume", "vol", "v"),
}
CANDLE = ("open", "high", "low")
"""The prices of a bar besides its close."""


class NotBars(Exception):
    """Raised for a file that holds no bars; ``fix`` is how to mend it, where that is known."""

    def __init__(self, what: str, *, fix: str | None = None) -> None:
        super().__init__(what)
        self.fix = fix


@dataclass(frozen=True)
class BarFile:
    """A file with bars: which symbols it has, and in which columns.

    ``columns`` maps our names to the file's own, for each symbol; a long table (``is_long``: each row names
    its symbol) has one map under the empty name. Open, high and low are mapped to the close where a file has
    closes only. ``num_blank`` rows of a long table have no symbol.
    """

    path: Path
    symbols: tuple[str, ...]
    columns: Mapping[str, Mapping[str, str]]
    is_long: bool
    header: tuple[str, ...] = ()
    head_lines: int = 0
    separator: str = ","
    num_blank: int = 0

    @property
    def knows_closes_only(self) -> bool:
        return any(columns[name] == columns["close"] for columns in self.columns.values() for name in CANDLE)
