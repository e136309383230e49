"""What a run keeps of its bars, in JSON files and a directory of arrays: written once, everything or nothing.

What is complete is verified and used again. Bars or settings other than those that the run began with are
refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hpc.base import records
from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.config.base import DataConfig
from stockpred.data import describe, store, universe
from stockpred.data.load import Intake

PLACES = {"dir", "universe"}


@dataclass(frozen=True)
class Settings:
    """The settings that prepared bars depend on: the names of their sections, and a hash of their values."""

    sections: str
    sha256: str

    @classmethod
    def of(cls, data: DataConfig, /, *, but: frozenset[str] = frozenset(), **others: Any) -> Settings:
        """Take ``data`` less its places and the keys in ``but``, the universe's content, and ``others``."""
        content = {
            "data": data.model_dump(mode="json", exclude=PLACES | but),
            "universe": [str(asset) for asset in universe.read(Path(data.universe)).assets],
            **others,
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        sections = [name for name, value in others.items() if isinstance(value, dict)]
        return cls(" or ".join(["data", *sections]), digest)


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything that is written: each file that tells something, ``data_info.json`` last, and the arrays."""

    intake: Intake
    told: Mapping[Path, Callable[[Path], None]]
    data_info: Mapping[str, Any]
    save_arrays: Callable[[Path], None]
    """Writes them into the directory that it is given."""


def write_once(
    paths: RunPaths,
    settings: Settings,
    told: frozenset[Path],
    make: Callable[[], Contents],
    guard: Callable[[], None],
) -> None:
    """Write what ``make`` returns, unless it is there already; ``told`` are the files beside data_info.json.

    Raises UserError for other bars or settings than the run began with, for a prepared file that was changed,
    and where nothing can be written.
    """
    if _is_complete(paths, told):
        _refuse_changes(paths, store.verify(paths.prepared)["made_from"], settings)
        return
    contents = make()
    made_from = {"bars_sha256": contents.intake.bars_sha256, "settings_sha256": settings.sha256}
    _refuse_changes(paths, made_from, settings)
    data_info = made_from | dict(contents.data_info)

    def write_data_info(path: Path) -> None:
        records.write_json(path, data_info)

    for path, write in {**contents.told, paths.data_info: write_data_info}.items():
        guard()
        with store.writing(path):
            write(path)
    store.write(paths.prepared, lambda directory: _fill(directory, contents), made_from, guard)


def _is_complete(paths: RunPaths, told: frozenset[Path]) -> bool:
    return store.read_manifest(paths.prepared) is not None and all(
        path.is_file() for path in told | {paths.data_info}
    )


def _refuse_changes(paths: RunPaths, made_from: dict[str, Any], settings: Settings) -> None:
    began_with = records.read_json_if_any(paths.data_info) or made_from
    if began_with.get("bars_sha256") != made_from["bars_sha256"]:
        raise UserError(
            "the bars are not those that this run began with",
            where=str(paths.data_info),
            fix="bring the old bars back, or start a new run",
        )
    if began_with.get("settings_sha256") != settings.sha256:
        raise UserError(
            f"the settings of {settings.sections} are not those that this run began with",
            where=str(paths.data_info),
            fix="start a new run",
        )


def _fill(directory: Path, contents: Contents) -> None:
    contents.save_arrays(directory)
    loaded, checked = contents.intake.loaded, contents.intake.checked
    bars = loaded.bars.assign(
        symbol=loaded.bars["symbol"].astype("category"),
        left_out=checked.left_out,
        break_before=checked.break_before,
    )
    _save_table(bars, directory / "bars.parquet")
    _save_table(describe.all_findings(loaded, checked), directory / "findings.parquet")


def _save_table(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, compression="zstd", index=False)
