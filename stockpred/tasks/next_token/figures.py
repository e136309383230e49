"""The figures of the next-token report: each function returns one SVG text."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.ticker import FixedLocator, MaxNLocator, PercentFormatter, StrMethodFormatter

from stockpred.report.canvas import (
    BAND,
    INK,
    MODEL,
    MUTED,
    RIVAL,
    STYLE,
    canvas,
    date_axis,
    legend_above,
    svg,
)
from stockpred.score.metrics import Floats


def coverage_curve(levels: Floats, model: tuple[str, Floats], rival: tuple[str, Floats] | None) -> str:
    """Draw how often the outcome fell inside each central interval; the diagonal is perfect calibration."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), label="perfect")
        if rival is not None:
            axes.plot(levels, rival[1], color=RIVAL, label=rival[0])
        axes.plot(levels, model[1], color=MODEL, marker="o", markersize=3.2, label=model[0])
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the interval", ylabel="outcomes inside")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axis.set_major_locator(FixedLocator([0.25, 0.5, 0.75, 1.0]))
        axes.legend(loc="upper left")
        return svg(figure, "coverage", "Share of outcomes inside central intervals against their probability")


def gain_over_time(gain: pd.Series) -> str:
    """Draw the mean gain in nats per bar by calendar period; ``gain`` is per bar, indexed by time."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas()
        period, days = _period_of(gain.index)
        mean = gain.resample(period).mean().dropna()
        centres = mean.index.to_numpy("datetime64[D]") - np.timedelta64(days // 2, "D")
        colours = np.where(mean.to_numpy() >= 0.0, MODEL, RIVAL)
        axes.bar(centres, mean.to_numpy(), width=0.8 * days, color=list(colours))
        axes.axhline(0.0, color=MUTED, linewidth=0.9)
        axes.set_ylabel("nats per bar gained")
        axes.grid(axis="x", visible=False)
        date_axis(axes)
        return svg(figure, "time", "Gain over the hardest rival of tokens by calendar period")


def gain_by_asset(gain: pd.Series) -> str:
    """Draw the gain of every asset, sorted; ``gain`` is indexed by symbol. Many assets become a histogram."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(height=max(3.3, 0.2 * len(gain) + 0.7) if len(gain) <= 30 else 3.3)
        if len(gain) <= 30:
            ordered = gain.sort_values(kind="stable")
            rows = np.arange(len(ordered))
            axes.add_collection(
                LineCollection([[(0, y), (x, y)] for x, y in zip(ordered, rows, strict=True)], colors=BAND)
            )
            axes.scatter(ordered, rows, s=26, color=np.where(ordered >= 0, MODEL, RIVAL), zorder=3)
            axes.set_yticks(rows, list(ordered.index))
            axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
            axes.set_ylim(-0.7, len(rows) - 0.3)
            axes.grid(axis="y", visible=False)
        else:
            axes.hist(gain, bins=30, color=MODEL)
            axes.set_ylabel("assets")
        axes.axvline(0.0, color=MUTED, linewidth=0.9)
        axes.set_xlabel("nats per bar gained")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return svg(figure, "assets", "Gain over the hardest rival of tokens by asset")


def forecast_fan(symbol: str, forecasts: pd.DataFrame) -> str:
    """Draw an asset's closes on the bands forecast for them one bar before; rows sorted by time."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas()
        time = forecasts["time"].to_numpy("datetime64[s]")
        before = forecasts["previous_close"].to_numpy()
        level = {
            name: before * (1.0 + forecasts[name].to_numpy(np.float64))
            for name in ("q05", "q25", "q75", "q95", "realised_return")
        }
        axes.fill_between(time, level["q05"], level["q95"], color=BAND, alpha=0.45, linewidth=0, label="90 %")
        axes.fill_between(time, level["q25"], level["q75"], color=BAND, alpha=0.9, linewidth=0, label="50 %")
        close = level["realised_return"]
        axes.plot(time, close, color=INK, linewidth=0.9, marker="o", markersize=1.8, label="close")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.margins(x=0.01)
        date_axis(axes)
        legend_above(axes)
        return svg(
            figure, f"fan-{symbol.encode().hex()}", f"One-bar-ahead forecast bands and closes of {symbol}"
        )


def token_candles(tokens: Sequence[int], candles_KF: Floats) -> str:
    """Draw tokens as candles; rows hold open, high, low, close in volatilities from the previous close."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas()
        opened, high, low, close = candles_KF.T
        colours = list(np.where(close >= opened, MODEL, RIVAL))
        axes.vlines(range(len(tokens)), low, high, colors=colours, linewidth=1.1)
        body = np.maximum(np.abs(close - opened), 0.02)
        axes.bar(range(len(tokens)), body, bottom=np.minimum(opened, close), width=0.6, color=colours)
        axes.axhline(0.0, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.set_xticks(range(len(tokens)), [str(token) for token in tokens])
        axes.tick_params(axis="x", labelsize=8.5)
        axes.set(xlabel="token", ylabel="volatilities from the last close")
        axes.grid(axis="x", visible=False)
        return svg(figure, "tokens", "Tokens drawn as candles, from falls to rises")


def _period_of(time: pd.Index) -> tuple[str, int]:
    """Return the resampling rule that gives some ten to forty bars, and its length in days."""
    span_days = (time.max() - time.min()).days
    if span_days <= 150:
        return "W", 7
    return ("ME", 30) if span_days <= 1300 else ("QE", 91)
