"""Alpha158 as qlib itself computes it: its expressions, on bars in its file format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import qlib
from qlib.config import REG_US
from qlib.contrib.data.loader import Alpha158DL
from qlib.data import D
from qlib.data.cache import H

FIELDS = ("open", "high", "low", "close", "volume")


class Alpha158:
    """Some of Alpha158's factors of bars, which are written to ``folder`` for qlib to read."""

    def __init__(self, bars: pd.DataFrame, folder: Path, names: Sequence[str]) -> None:
        days = bars["time"].dt.tz_localize(None)
        self.rows = pd.MultiIndex.from_arrays([bars["symbol"].map(_instrument_names(bars)), days])
        self.names = list(names)
        self.expressions = dict(zip(*reversed(Alpha158DL.get_feature_config()), strict=True))
        _write(bars.assign(time=days), folder)
        qlib.init(provider_uri=str(folder), region=REG_US, kernels=1, logging_level="ERROR")

    def values(self) -> np.ndarray:
        """Return the factors [F, N] of the bars, in their order, with nothing taken from a cache."""
        H.clear()
        fields = [self.expressions[name] for name in self.names]
        table = D.features(D.instruments("all"), fields, freq="day")
        return table.reindex(self.rows).to_numpy(np.float64).T


def _instrument_names(bars: pd.DataFrame) -> dict[str, str]:
    """Return a plain name for each symbol: qlib's become the names of folders."""
    return {symbol: f"I{number:05}" for number, symbol in enumerate(bars["symbol"].unique())}


def _write(bars: pd.DataFrame, folder: Path) -> None:
    """Write the calendar, the instruments, and per instrument and field a file of float32.

    The file begins with the place in the calendar of the first value; days without a bar are NaN.
    """
    calendar = pd.DatetimeIndex(np.sort(bars["time"].unique()))
    for name in ("calendars", "instruments"):
        (folder / name).mkdir(parents=True)
    (folder / "calendars" / "day.txt").write_text("\n".join(calendar.strftime("%Y-%m-%d")) + "\n")
    lines = []
    for symbol, instrument in _instrument_names(bars).items():
        asset = bars[bars["symbol"] == symbol].set_index("time")
        days = calendar[(calendar >= asset.index[0]) & (calendar <= asset.index[-1])]
        lines.append(f"{instrument}\t{days[0]:%Y-%m-%d}\t{days[-1]:%Y-%m-%d}")
        home = folder / "features" / instrument.lower()
        home.mkdir(parents=True)
        for field, values in asset[list(FIELDS)].reindex(days).items():
            content = np.r_[calendar.get_loc(days[0]), values.to_numpy()]
            content.astype("<f4").tofile(home / f"{field}.day.bin")
    (folder / "instruments" / "all.txt").write_text("\n".join(lines) + "\n")
