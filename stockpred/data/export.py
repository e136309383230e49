"""Write bars, as training reads them, into one ``.npz`` per asset (see ``formats/npz.py``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hpc.base import records
from hpc.base.errors import UserError
from hpc.base.text import count
from stockpred.data import universe
from stockpred.data.bars import SourceBars
from stockpred.data.formats import npz
from stockpred.data.formats.names import file_name
from stockpred.data.sources import files
from stockpred.data.universe import Universe

MAX_SHOWN = 8
WHEN_REFUSED = "check the folder, its permissions and free space; what was written before is whole"


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written, the bars in it, and how many corrections they had, by check.

    The corrections are stated because the file itself does not show them.
    """

    path: Path
    num_bars: int
    first: pd.Timestamp
    last: pd.Timestamp
    num_corrected: Mapping[str, int]

    def __str__(self) -> str:
        span = f"{self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}"
        corrected = ", ".join(f"{number} {check}" for check, number in self.num_corrected.items())
        written = f"{self.path.name}: {count(self.num_bars, 'bar')}, {span}"
        return f"{written}; mended: {corrected}" if corrected else written


def export_npz(
    universe_path: Path,
    data_dir: str,
    out_dir: Path,
    *,
    symbols: Collection[str] = (),
    may_replace: bool = False,
) -> Iterator[ExportedFile]:
    """Write ``out_dir``/SYMBOL.npz for each asset, or for ``symbols``; yield each file once it is whole.

    Raises UserError before the first file is written where a symbol is unknown, an asset has no bars or a
    file is there already, and where a file cannot be written.
    """
    chosen = universe.read(universe_path).only(symbols, where="--symbol")
    targets = {symbol: out_dir / file_name(symbol, npz.ENDING) for symbol in chosen.symbols}
    if out_dir.exists() and not out_dir.is_dir():
        raise UserError("is a file, not a folder", where=str(out_dir), fix="give --npz another name")
    _refuse_clashes(targets, may_replace=may_replace)
    source = _load(data_dir, chosen)
    is_closes_only = source.findings["check"] == files.CLOSES_ONLY
    closes_only = set(source.findings.loc[is_closes_only, "symbol"])
    corrections = source.findings[~is_closes_only]
    by_symbol = dict(iter(source.bars.groupby("symbol", sort=False)))
    for symbol, path in targets.items():
        bars = by_symbol[symbol]
        content = npz.to_bytes(bars, symbol, closes_only=symbol in closes_only)
        with records.writing(path, fix=WHEN_REFUSED):
            records.write_bytes(path, content)
        checks = Counter(map(str, corrections.loc[corrections["symbol"] == symbol, "check"]))
        yield ExportedFile(path, len(bars), bars["time"].iloc[0], bars["time"].iloc[-1], checks)


def _load(data_dir: str, chosen: Universe) -> SourceBars:
    try:
        return files.load_from(data_dir, chosen)
    except UserError as error:
        if error.where != "data.dir":
            raise
        remedy = "give the folder that holds their bars, or choose assets with --symbol"
        raise UserError(error.what, where="--data", fix=remedy) from None


def _refuse_clashes(targets: Mapping[str, Path], *, may_replace: bool) -> None:
    """Raise UserError for files that exist, and for symbols whose files differ by case alone."""
    there = [path for path in targets.values() if path.exists()]
    if there and not may_replace:
        names = ", ".join(path.name for path in there[:MAX_SHOWN]) + (
            ", ..." if len(there) > MAX_SHOWN else ""
        )
        what = f"{count(len(there), 'file')} would be replaced: {names}"
        raise UserError(what, where=str(there[0].parent), fix="choose another folder, or add --force")
    folded: dict[str, str] = {}
    for symbol, path in targets.items():
        other = folded.setdefault(path.name.casefold(), symbol)
        if other != symbol:
            what = f"{other} and {symbol} would share one file where case does not count"
            raise UserError(what, where=str(path.parent), fix="export them with --symbol into two folders")
