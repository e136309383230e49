"""Bars from a folder of CSV, Parquet and npz files, or from one such file; other files are ignored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpc.base.errors import UserError
from stockpred.config.base import DataConfig
from stockpred.data import bars as bar_table
from stockpred.data.formats import tables
from stockpred.data.formats.columns import BarFile, NotBars
from stockpred.data.universe import Asset, Universe

HOW_TO_FETCH_BARS = (
    "fetch bars where there is internet: stockpred data fetch CASE --out DIR; "
    "or bring one CSV per symbol (date, open, high, low, close, volume), "
    "named as in the universe's column `files` or `yahoo`"
)
HOW_TO_GET_BARS = (
    "say where the bars are, as in `make submit DATA=DIR`, or choose data.source=synthetic; "
    + HOW_TO_FETCH_BARS
)
MAX_NAMES = 8
ADJUSTMENT_JUMP = 0.3  # log; a factor that moves so far while the price stands still is an error
CLOSES_ONLY = "closes_only"
FILE_STEP_NS = 20 * 3600 * 10**9


@dataclass(frozen=True)
class FileChoice:
    """The file from which one asset's bars are taken, and the asset's name in it."""

    asset: Asset
    bar_file: BarFile
    name: str


def load(config: DataConfig, universe: Universe) -> bar_table.SourceBars:
    """Load every asset of the universe; raise UserError that lists those which no file has."""
    return load_from(config.dir, universe)


def survey(config: DataConfig, universe: Universe) -> None:
    """Raise UserError unless some file has each asset of the universe; reads the files' heads only."""
    root = _root(config.dir)
    _chosen(root, universe, *_survey(root, universe))


def load_from(folder: str | None, universe: Universe) -> bar_table.SourceBars:
    """Load every asset of the universe from a folder, or from one file."""
    root = _root(folder)
    bar_files, aside = _survey(root, universe)
    choices = _chosen(root, universe, bar_files, aside)
    used = _used(choices)
    rows = pd.concat([_read(bar_file, choices) for bar_file in used], ignore_index=True)
    _refuse_mixed_lengths(rows)
    adjusted, jumps = adjust(rows)
    tidied, repeats = bar_table.tidy(adjusted)
    unused = {str(own.path): "none of its symbols is needed" for own in bar_files if own not in used}
    origin: dict[str, Any] = {
        "dir": str(root),
        "files": {str(bar_file.path): _sha256(bar_file.path) for bar_file in used},
        "left_aside": dict(sorted((aside | unused).items())),
    }
    found = [repeats, jumps, _closes_only(tidied, choices), *map(_blank_symbols, used)]
    return bar_table.SourceBars(tidied, bar_table.join_findings(found), origin)


def adjust(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scale open, high, low and close by adj_close / close; return (rows, findings).

    A factor that is unknown in one row is the one before. A factor that jumps while the price does not is an
    error of the provider: that one change is undone.
    """
    if rows["adj_close"].isna().all():
        return rows.drop(columns="adj_close"), bar_table.no_findings()
    rows = rows.sort_values(["symbol", "time"], kind="stable", ignore_index=True)
    symbol = rows["symbol"]
    log_close = np.log(rows["close"].where(rows["close"] > 0))
    factor = np.log(rows["adj_close"].where(rows["adj_close"] > 0)) - log_close
    factor = factor.groupby(symbol, sort=False).ffill().groupby(symbol, sort=False).bfill().fillna(0.0)
    step = factor.groupby(symbol, sort=False).diff().fillna(0.0)
    move = log_close.groupby(symbol, sort=False).diff()
    is_error = (step.abs() > ADJUSTMENT_JUMP) & (move.abs() < ADJUSTMENT_JUMP)
    undone = step.where(is_error, 0.0).groupby(symbol, sort=False).cumsum()
    scale = np.exp(factor - undone)
    prices = {name: rows[name] * scale for name in bar_table.PRICES}
    jumps = bar_table.findings("adjustment_jump", rows[is_error], step[is_error], "change of factor ignored")
    return rows.assign(**prices).drop(columns="adj_close"), jumps


def _root(folder: str | None) -> Path:
    if not folder:
        raise UserError("no folder with bars was given", where="data.dir", fix=HOW_TO_GET_BARS)
    root = Path(folder).expanduser()
    try:
        exists = root.exists()
    except PermissionError:
        raise UserError(
            f"no permission to look into {root}", where="data.dir", fix=f"chmod +rx {root}"
        ) from None
    if not exists:
        raise UserError(f"there is no folder or file {root}", where="data.dir", fix=HOW_TO_GET_BARS)
    return root


def _survey(root: Path, universe: Universe) -> tuple[list[BarFile], dict[str, str]]:
    """Return the files with bars, and why each other file was left aside."""
    try:
        paths = (
            [root] if root.is_file() else sorted(path for path in root.rglob("*") if _is_shown(path, root))
        )
    except PermissionError as error:
        raise UserError(f"no permission to look into {error.filename}", where="data.dir") from None
    own_names = {name.casefold() for asset in universe.assets for name in _names(asset)}
    bar_files: list[BarFile] = []
    aside: dict[str, str] = {}
    for path in paths:
        if not tables.is_table(path):
            aside[str(path)] = "neither CSV nor Parquet nor npz"
            continue
        try:
            bar_files.append(tables.survey(path))
        except NotBars as problem:
            if path == root or tables.stem(path).casefold() in own_names:
                raise UserError(
                    f"holds no bars: {problem}", where=str(path), fix=problem.fix or HOW_TO_GET_BARS
                ) from None
            aside[str(path)] = str(problem)
    return bar_files, aside


def _is_shown(path: Path, root: Path) -> bool:
    """Say whether a path is a file that is not hidden, nor in a hidden folder below ``root``."""
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)


def _chosen(
    root: Path, universe: Universe, bar_files: list[BarFile], aside: dict[str, str]
) -> list[FileChoice]:
    """Return a file for every asset; raise UserError that lists those which no file has."""
    choices = [choice for asset in universe.assets if (choice := _choose(asset, universe, bar_files))]
    _refuse_missing(root, universe, choices, aside)
    return choices


def _names(asset: Asset) -> tuple[str, ...]:
    """Return the asset's names, most trusted first."""
    return tuple(dict.fromkeys(filter(None, (asset.files, asset.symbol, asset.yahoo, asset.binance))))


def _choose(asset: Asset, universe: Universe, bar_files: list[BarFile]) -> FileChoice | None:
    """Return the best file with the asset's bars, None where no file has them.

    The most trusted name decides, then how much of the universe a file has, then its path.
    """
    candidates = []
    for bar_file in bar_files:
        held = (
            {name: name for name in bar_file.symbols}
            if bar_file.is_long
            else {n.casefold(): n for n in bar_file.symbols}
        )
        for rank, name in enumerate(_names(asset)):
            own = held.get(name if bar_file.is_long else name.casefold())
            if own is not None:
                candidates.append(
                    (
                        rank,
                        -_coverage(bar_file, universe),
                        str(bar_file.path),
                        FileChoice(asset, bar_file, own),
                    )
                )
    return min(candidates, key=lambda candidate: candidate[:3])[3] if candidates else None


def _coverage(bar_file: BarFile, universe: Universe) -> int:
    held = set(bar_file.symbols)
    return sum(not held.isdisjoint(_names(asset)) for asset in universe.assets)


def _used(choices: list[FileChoice]) -> list[BarFile]:
    return list({str(choice.bar_file.path): choice.bar_file for choice in choices}.values())


def _refuse_missing(root: Path, universe: Universe, choices: list[FileChoice], aside: dict[str, str]) -> None:
    found = {choice.asset.symbol for choice in choices}
    missing = [asset for asset in universe.assets if asset.symbol not in found]
    if not missing:
        return
    first = ", ".join(asset.files or asset.symbol for asset in missing[:MAX_NAMES])
    more = ", ..." if len(missing) > MAX_NAMES else ""
    skipped = "; ".join(f"{Path(path).name}: {why}" for path, why in list(aside.items())[:MAX_NAMES])
    raise UserError(
        f"{root} has no bars for {len(missing)} of {len(universe.assets)} assets: {first}{more}"
        + (f" (left aside: {skipped})" if skipped else ""),
        where="data.dir",
        fix=f"add their files, or take them out of {universe.path}; {HOW_TO_FETCH_BARS}"
        if choices
        else HOW_TO_GET_BARS,
    )


def _read(bar_file: BarFile, choices: list[FileChoice]) -> pd.DataFrame:
    own = [choice for choice in choices if choice.bar_file.path == bar_file.path]
    by_name: dict[str, list[str]] = {}
    for choice in own:
        by_name.setdefault(choice.name, []).append(choice.asset.symbol)
    shared = {name: symbols for name, symbols in by_name.items() if len(symbols) > 1}
    if shared:
        name, symbols = next(iter(shared.items()))
        raise UserError(
            f"{' and '.join(symbols)} would both read {name!r} of {bar_file.path}", where="universe.csv"
        )
    rows = tables.read(bar_file, by_name)
    renamed = {name: symbols[0] for name, symbols in by_name.items()}
    return rows.assign(symbol=rows["symbol"].astype(object).map(renamed).astype(str))


def _closes_only(bars: pd.DataFrame, choices: list[FileChoice]) -> pd.DataFrame:
    """Return a finding per asset whose bars are no candles; value = how many bars."""
    symbols = [choice.asset.symbol for choice in choices if choice.bar_file.knows_closes_only]
    own = bars[bars["symbol"].isin(symbols)]
    counts = own.groupby("symbol")["time"].transform("size")
    is_first = ~own.duplicated("symbol")
    action = "open, high and low set to the close"
    return bar_table.findings(CLOSES_ONLY, own[is_first], counts[is_first], action)


def _blank_symbols(bar_file: BarFile) -> pd.DataFrame:
    times = pd.Series(pd.NaT, index=range(bar_file.num_blank), dtype=bar_table.TIME_TYPE)
    rows = pd.DataFrame({"symbol": bar_file.path.name, "time": times})
    return bar_table.findings("blank_symbol", rows, 1.0, "left out; no asset can be told")


def _refuse_mixed_lengths(rows: pd.DataFrame) -> None:
    """Refuse daily bars beside intraday ones: their times cannot be split or compared together."""
    ordered = rows[["symbol", "time"]].sort_values(["symbol", "time"], kind="stable")
    step = ordered["time"].diff().where(ordered["symbol"] == ordered["symbol"].shift())
    usual = step.groupby(ordered["symbol"]).median().dropna()
    is_intraday = usual < pd.Timedelta(FILE_STEP_NS, unit="ns")
    if is_intraday.any() and not is_intraday.all():
        fast, slow = usual.index[is_intraday][0], usual.index[~is_intraday][0]
        raise UserError(
            f"bars of different length are mixed: {fast} every {usual[fast]}, {slow} every {usual[slow]}",
            where="data.dir",
            fix="give a folder with bars of one length",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
