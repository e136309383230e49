"""Fourteen factors of every bar, against plain pandas, and against qlib where it is installed.

python benchmarks/factors.py [--data DIR] [--category NAME] [--assets N] [--days N] [--repeats N]

All compute the same fourteen of Alpha158 from the same bars, each asset one segment, in one process. qlib
reads its own files, without caches, so ours is also timed from a Parquet file. The memory is the most that
was allocated at once beside the bars, from one more run of each. With --data the bars are those of one
category in DIR/market_daily.parquet; otherwise they are synthetic.
"""

from __future__ import annotations

import argparse
import tempfile
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from comparison import in_turns, show

from stockpred.data import bars as bar_table
from stockpred.data.bars import BarColumns
from stockpred.data.factors.build import build
from stockpred.data.quality import CheckedBars

NAMES = (
    "KMID", "KUP", "KLOW", "ROC5", "ROC20", "MA5", "MA20", "STD5", "STD20", "MAX20", "MIN20", "VMA5",
    "VSTD20", "CORR20",
)  # fmt: skip
OURS, RIVAL, QLIB = "ours", "pandas", "qlib, from its files"
Values = np.ndarray
"""[14, N]"""


def synthetic(num_assets: int, num_days: int) -> pd.DataFrame:
    """Return random walks of 2 % a day with valid candles."""
    rng = np.random.default_rng(0)
    shape = (num_assets, num_days)
    close = 50 * np.exp(np.cumsum(0.02 * rng.standard_normal(shape), axis=1))
    opened = close * np.exp(0.01 * rng.standard_normal(shape))
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * np.exp(0.01 * rng.random(shape)),
        "low": np.minimum(opened, close) * np.exp(-0.01 * rng.random(shape)),
        "close": close,
        "volume": np.exp(13 + rng.standard_normal(shape)),
    }
    days = pd.bdate_range("2004-01-01", periods=num_days, tz="UTC").astype(bar_table.TIME_TYPE)
    symbols = [f"S{number:04}" for number in range(num_assets)]
    rows = pd.MultiIndex.from_product([symbols, days], names=["symbol", "time"]).to_frame(index=False)
    return rows.assign(**{name: values.ravel() for name, values in columns.items()})


def real(file: Path, category: str) -> pd.DataFrame:
    """Return the bars of one category, less those without known prices."""
    rows = pd.read_parquet(file, filters=[("category", "==", category)])
    rows["time"] = rows["date"].dt.tz_localize("UTC")
    bars, _ = bar_table.tidy(rows.rename(columns={"asset": "symbol"}))
    return bars[(bars[list(bar_table.PRICES)] > 0).all(axis=1)].reset_index(drop=True)


def rounded(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the bars in single precision, in which qlib stores them, so that all see the same ones."""
    numbers = [*bar_table.PRICES, "volume"]
    return bars.assign(**bars[numbers].astype(np.float32).astype(np.float64))


def whole(bars: pd.DataFrame) -> CheckedBars:
    """Return the bars with no border inside an asset."""
    columns = BarColumns.of(bars)
    return CheckedBars(bars, columns, np.zeros(len(bars), bool), columns.is_first, bar_table.no_findings())


def by_pandas(bars: pd.DataFrame) -> Values:
    """Return the factors by pandas."""
    assets = bars.groupby("symbol", sort=False)
    opened, close, volume = bars["open"], bars["close"], bars["volume"]

    def rolled(column: str, window: int, statistic: str) -> Values:
        return assets[column].rolling(window).agg(statistic).to_numpy()

    return np.stack(
        [
            (close - opened) / opened,
            (bars["high"] - np.maximum(opened, close)) / opened,
            (np.minimum(opened, close) - bars["low"]) / opened,
            *(assets["close"].shift(count) / close for count in (5, 20)),
            *(rolled("close", window, "mean") / close for window in (5, 20)),
            *(rolled("close", window, "std") / close for window in (5, 20)),
            rolled("high", 20, "max") / close,
            rolled("low", 20, "min") / close,
            rolled("volume", 5, "mean") / volume,
            rolled("volume", 20, "std") / volume,
            _correlations(bars),
        ]
    )


def _correlations(bars: pd.DataFrame) -> Values:
    """Go from asset to asset: it is faster than the groups' own correlation, which returns every pair."""
    series = pd.DataFrame({"close": bars["close"], "log_volume": np.log(bars["volume"] + 1)})
    assets = series.groupby(bars["symbol"], sort=False)
    return np.concatenate([asset["close"].rolling(20).corr(asset["log_volume"]) for _, asset in assets])


def without_holes(bars: pd.DataFrame) -> np.ndarray:
    """Return which bars [N] are of assets that have one on every day between their first and their last."""
    place = bars["time"].rank(method="dense").groupby(bars["symbol"])
    num_days = place.transform("max") - place.transform("min") + 1
    return (num_days == place.transform("size")).to_numpy()


def show_equality(ours: Values, theirs: Values, rival: str) -> None:
    """Print the largest difference of values that both have, relative to those above 1."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    difference = np.where(both, np.abs(ours - theirs) / np.maximum(np.abs(ours), 1), 0).max(axis=1)
    worst = int(difference.argmax())
    verdict = "equal" if difference[worst] <= 1e-5 else "NOT EQUAL"
    print(
        f"  {verdict} to {rival}: {both.sum():,} values, largest difference {difference[worst]:.1e} "
        f"({NAMES[worst]}); {(np.isfinite(ours) & ~both).sum():,} of ours it lacks"
    )


def show_memory(acts: dict[str, Callable[[], Values]]) -> None:
    for name, act in acts.items():
        tracemalloc.start()
        result = act()
        megabytes = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        print(
            f"  {name}: at most {megabytes:.0f} MB at once, {result.nbytes / 1e6:.0f} MB of them the result"
        )


def compare(bars: pd.DataFrame, folder: Path, repeats: int) -> None:
    """Time all ways to the factors in turns; print times, memory and equality."""
    checked, file = whole(bars), folder / "bars.parquet"
    bars.to_parquet(file, index=False)
    acts = {RIVAL: lambda: by_pandas(bars), OURS: lambda: build(checked, NAMES)}
    in_memory = dict(acts)
    acts[f"{OURS}, from Parquet"] = lambda: build(whole(pd.read_parquet(file)), NAMES)
    if find_spec("qlib"):
        from alpha158 import Alpha158

        acts[QLIB] = Alpha158(bars, folder / "qlib", NAMES).values
    samples = in_turns(acts, repeats)
    show(
        f"{len(NAMES)} factors of {len(bars):,} bars of {bars['symbol'].nunique()} assets",
        samples,
        rival=RIVAL,
    )
    show_memory(in_memory)
    ours = build(checked, NAMES)
    show_equality(ours, acts[RIVAL](), RIVAL)
    if QLIB in acts:
        rows = without_holes(bars)  # to qlib a day without a bar is a place in the window, to us it is none
        num_assets = bars["symbol"][rows].nunique()
        show_equality(ours[:, rows], acts[QLIB]()[:, rows], f"qlib on {num_assets} assets without holes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with market_daily.parquet")
    parser.add_argument("--category", default="us_equity")
    parser.add_argument("--assets", type=int, default=800)
    parser.add_argument("--days", type=int, default=3483)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    if asked.data:
        bars = real(asked.data / "market_daily.parquet", asked.category)
    else:
        bars = synthetic(asked.assets, asked.days)
    with tempfile.TemporaryDirectory() as folder:
        compare(rounded(bars), Path(folder), asked.repeats)


if __name__ == "__main__":
    main()
