"""Bars from a seeded simulation with the stylised facts of markets; for demos and tests without a network.

R. Cont, "Empirical properties of asset returns: stylized facts and statistical issues", Quantitative Finance
1 (2001): fat tails, volatility clustering, volume that goes with volatility. Each asset's own draws depend on
(seed, symbol), the market's on (seed): an asset's bars do not change when others join. Each quantity has a
generator of its own, so that more bars only append. Crypto trades every day, everything else from Monday to
Friday. Shape suffix: T days.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stockpred.config.base import DataConfig
from stockpred.data import bars as bar_table
from stockpred.data.arrays import Floats
from stockpred.data.universe import Asset, Universe

TAIL_DEGREES = 4.0  # Student t: kurtosis well above the normal's 3
REGIME_SCALES = (0.6, 1.8)  # calm and stressed days, in multiples of the usual volatility
REGIME_STAY = (0.985, 0.95)  # chance that a regime goes on for another day
GARCH_SHOCK, GARCH_MEMORY = 0.08, 0.86
MARKET_SHARE = 0.5  # of an asset's variance
DAILY_VOLATILITY = {"crypto": 0.04, "commodity": 0.016, "index": 0.01}
USUAL_VOLATILITY = 0.018
VOLUME_MEMORY, VOLUME_NOISE, VOLUME_PER_VOLATILITY = 0.7, 0.25, 0.8
DAYS_PER_WEEK, WORKDAYS = 7, 5


@dataclass(frozen=True)
class _Path:
    """One simulated series in units of its own usual volatility."""

    move_T: Floats
    scale_T: Floats
    """Standard deviation of that day's move."""


def load(config: DataConfig, universe: Universe) -> bar_table.SourceBars:
    """Simulate ``config.synthetic.num_bars`` bars of every asset."""
    made = config.synthetic
    num_days = made.num_bars * DAYS_PER_WEEK // WORKDAYS + DAYS_PER_WEEK
    days = pd.date_range(str(made.start), periods=num_days, freq="D", tz="UTC")
    market = _simulate(made.seed, "the market", num_days)
    parts = [_bars(asset, days, market, made.seed, made.num_bars) for asset in universe.assets]
    tidied, found = bar_table.tidy(pd.concat(parts, ignore_index=True))
    return bar_table.SourceBars(tidied, found, {"is_synthetic": True, "seed": made.seed})


def _bars(asset: Asset, days: pd.DatetimeIndex, market: _Path, seed: int, num_bars: int) -> pd.DataFrame:
    rng = _generator(seed, asset.symbol, "character")
    trades = (
        np.ones(len(days), bool) if asset.category == "crypto" else days.day_of_week.to_numpy() < WORKDAYS
    )
    open_days = np.flatnonzero(trades)[:num_bars]
    own = _simulate(seed, asset.symbol, len(days))
    volatility = DAILY_VOLATILITY.get(asset.category, USUAL_VOLATILITY) * rng.uniform(0.8, 1.3)
    share = MARKET_SHARE * rng.uniform(0.7, 1.3)
    move = np.sqrt(share) * market.move_T + np.sqrt(1 - share) * own.move_T
    scale = np.sqrt(share * market.scale_T**2 + (1 - share) * own.scale_T**2)
    first_price = float(np.exp(rng.uniform(np.log(5.0), np.log(500.0))))
    prices = _candles(
        _generator(seed, asset.symbol, "candles"),
        first_price,
        volatility * move[open_days],
        volatility * scale[open_days],
    )
    base_volume = float(rng.uniform(np.log(1e5), np.log(1e8)))
    noise = _generator(seed, asset.symbol, "volume")
    volume = _volume(noise, base_volume, scale[open_days], np.abs(move[open_days]))
    return pd.DataFrame({"symbol": asset.symbol, "time": days[open_days], **prices, "volume": volume})


def _simulate(seed: int, name: str, num_days: int) -> _Path:
    """Draw a GARCH(1,1) with Student-t shocks whose level switches between two regimes."""
    unit = np.sqrt((TAIL_DEGREES - 2) / TAIL_DEGREES)
    shocks = _generator(seed, name, "shocks").standard_t(TAIL_DEGREES, num_days) * unit
    switches = _generator(seed, name, "regimes").random(num_days)
    scale, regime, variance = np.empty(num_days), 0, 1.0
    for day in range(num_days):
        regime = regime if switches[day] < REGIME_STAY[regime] else 1 - regime
        scale[day] = REGIME_SCALES[regime] * np.sqrt(variance)
        shock = min(shocks[day] ** 2, 25.0)
        variance = (1 - GARCH_SHOCK - GARCH_MEMORY) + variance * (GARCH_SHOCK * shock + GARCH_MEMORY)
    return _Path(scale * shocks, scale)


def _candles(
    rng: np.random.Generator, first_price: float, move_T: Floats, scale_T: Floats
) -> dict[str, Floats]:
    """Make valid candles: a gap at the open, and a high and low that reach beyond open and close."""
    count = len(move_T)
    gap, above, below = rng.standard_normal((count, 3)).T
    close = first_price * np.exp(np.cumsum(np.clip(move_T, -0.6, 0.6)))
    opened = np.r_[first_price, close[:-1]] * np.exp(0.25 * scale_T * gap)
    up, down = 0.4 * scale_T * np.abs(above), 0.4 * scale_T * np.abs(below)
    return {
        "open": opened,
        "high": np.maximum(opened, close) * np.exp(up),
        "low": np.minimum(opened, close) * np.exp(-down),
        "close": close,
    }


def _volume(rng: np.random.Generator, base: float, scale_T: Floats, size_T: Floats) -> Floats:
    """Make volume that lasts (an autoregression) and that grows with volatility and with the day's move."""
    noise, level = rng.standard_normal(len(scale_T)) * VOLUME_NOISE, np.empty(len(scale_T))
    last = 0.0
    for day, shock in enumerate(noise):
        last = VOLUME_MEMORY * last + shock
        level[day] = last
    surprise = 0.2 * np.minimum(size_T / scale_T, 4.0)
    return np.exp(base + level + VOLUME_PER_VOLATILITY * np.log(scale_T) + surprise)


def _generator(seed: int, name: str, quantity: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{name}\0{quantity}".encode()).digest()
    return np.random.default_rng([seed & 0xFFFFFFFF, int.from_bytes(digest[:8], "little")])
