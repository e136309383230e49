"""The files that a run keeps of its bars: written once, then verified and used again by every later attempt.

They are JSON files in the run directory and ``prepared/`` with arrays and tables. Bars or settings other than
those that the run began with are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpc.base import records
from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.config.base import DataConfig
from stockpred.data import bars as bar_table
from stockpred.data import store, universe
from stockpred.data.bars import BarColumns
from stockpred.data.load import UniverseBars
from stockpred.data.quality import CheckedBars
from stockpred.data.splits import Splits

BARS = "bars.parquet"
PLACES = frozenset({"dir", "universe"})
"""Settings of ``data`` that say where the bars are, not which."""


@dataclass(frozen=True)
class SettingsDigest:
    """The settings that prepared bars depend on: the names of their sections, and a hash of their values."""

    sections: str
    sha256: str

    @classmethod
    def of(
        cls, data: DataConfig, /, *, without: frozenset[str] = frozenset(), **others: Any
    ) -> SettingsDigest:
        """Hash ``data`` less its places and the keys ``without``, the universe's assets, and ``others``."""
        content = {
            "data": data.model_dump(mode="json", exclude=set(PLACES | without)),
            "universe": [str(asset) for asset in universe.read(Path(data.universe)).assets],
            **others,
        }
        sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        sections = [name for name, value in others.items() if isinstance(value, dict)]
        return cls(" or ".join(["data", *sections]), sha256)


@dataclass(frozen=True, eq=False)
class Contents:
    """What is written: bars, texts by path, the content of data_info.json, and arrays by name."""

    bars: UniverseBars
    texts: Mapping[Path, str]
    data_info: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class PreparedFiles:
    """Where a run keeps its prepared bars; ``json_files`` are those besides data_info.json."""

    paths: RunPaths
    json_files: tuple[Path, ...]
    settings: SettingsDigest
    arrays: tuple[str, ...] = ()

    def ensure(self, make: Callable[[], Contents], check_lease: Callable[[], None]) -> None:
        """Make sure that the files are there and are the right ones.

        Complete files are verified and used again; else ``make`` gives what is written. Raises UserError for
        bars or settings other than those that the run began with. ``check_lease`` is called right before
        anything in the run directory is written or removed, and raises where another attempt holds the run.
        """
        if self.is_complete():
            self.verify()
        else:
            self.write(make(), check_lease)

    def is_complete(self) -> bool:
        """Return whether an earlier attempt has written every file; an older version may lack an array."""
        has_all = all(path.is_file() for path in (*self.json_files, self.paths.data_info))
        manifest = store.read_manifest(self.paths.prepared)
        return (
            has_all
            and manifest is not None
            and {f"{name}.npy" for name in self.arrays} <= set(manifest["files"])
        )

    def verify(self) -> None:
        """Raise UserError where a prepared file was changed, or was made with other settings."""
        self._refuse_changes(store.verify(self.paths.prepared)["made_from"])

    def write(self, contents: Contents, check_lease: Callable[[], None]) -> None:
        """Write every file, ``prepared/`` last; ``check_lease`` is called before each.

        Raises UserError for bars or settings other than those that the run began with, and where a file
        cannot be written.
        """
        made_from = {"bars_sha256": contents.bars.sha256, "settings_sha256": self.settings.sha256}
        self._refuse_changes(made_from)
        data_info = records.json_text(made_from | dict(contents.data_info))
        for path, text in {**contents.texts, self.paths.data_info: data_info}.items():
            check_lease()
            with store.writing(path):
                records.write_text(path, text)
        with store.replacing(self.paths.prepared, made_from, check_lease) as directory:
            for name, array in contents.arrays.items():
                np.save(directory / f"{name}.npy", array)
            _save_tables(contents.bars, directory)

    def _refuse_changes(self, made_from: Mapping[str, str]) -> None:
        """Compare with data_info.json, which outlives a ``prepared/`` that was removed."""
        began_with = records.read_json_if_any(self.paths.data_info) or made_from
        if began_with.get("bars_sha256") != made_from["bars_sha256"]:
            raise UserError(
                "the bars are not those that this run began with",
                where=str(self.paths.data_info),
                fix="bring the old bars back, or start a new run",
            )
        if began_with.get("settings_sha256") != self.settings.sha256:
            raise UserError(
                f"the settings of {self.settings.sections} are not those that this run began with",
                where=str(self.paths.data_info),
                fix="start a new run",
            )


def read_bars(directory: Path) -> tuple[CheckedBars, Splits]:
    """Return a run's checked bars as they were prepared, without their findings, and the split of each."""
    table = pd.read_parquet(directory / BARS)
    left_out, break_before, split = (
        table.pop(name).to_numpy() for name in ("left_out", "break_before", "split")
    )
    checked = CheckedBars(table, BarColumns.of(table), left_out, break_before, bar_table.no_findings())
    return checked, split


def _save_tables(bars: UniverseBars, directory: Path) -> None:
    """Write all bars with the marks of the checks, and all findings."""
    table = bars.source.bars.assign(
        symbol=bars.source.bars["symbol"].astype("category"),
        left_out=bars.checked.left_out,
        break_before=bars.checked.break_before,
        split=bars.split,
    )
    _save_table(table, directory / BARS)
    _save_table(bars.findings, directory / "findings.parquet")


def _save_table(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, compression="zstd", index=False)
