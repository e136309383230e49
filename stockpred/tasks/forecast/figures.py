"""The figure of a forecast test: forecasts beside closes, and the errors of model and persistence."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from stockpred.report.canvas import BAND, INK, MODEL, MUTED, STYLE, date_axis, legend_above, svg

STILL = "#edc39b"


def forecast_and_errors(name: str, model: str, symbol: str, predictions: pd.DataFrame) -> str:
    """Draw closes over their forecasts, and below the model's errors over those of persistence.

    What lies below is broad and pale, what lies above thin and dark, so that two series that nearly coincide
    are both seen. ``name`` makes identifiers unique in the page; rows sorted by time.
    """
    time = predictions["time"].to_numpy("datetime64[s]")
    close = predictions["close"].to_numpy(np.float64)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 5.5), dpi=72, layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 3))
        forecast, before = predictions["forecast"], predictions["previous_close"]
        above.plot(time, forecast, color=BAND, linewidth=4.0, label=f"{model}, one bar before")
        above.plot(time, close, color=INK, linewidth=0.9, label="close")
        label = "error of the last close"
        below.vlines(time, 0.0, close - before, colors=STILL, linewidth=1.6, label=label)
        below.axhline(0.0, color=MUTED, linewidth=0.9)
        below.plot(time, close - forecast, "o", color=MODEL, markersize=1.6, label=f"error of {model}")
        above.set_ylabel("price")
        below.set_ylabel("close less forecast")
        for axes in (above, below):
            _dress(axes)
        date_axis(below)
        figure.align_ylabels()
        return svg(figure, name, f"Forecasts of {model} and closes of {symbol}, and the errors of both")


def _dress(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.margins(x=0.01)
    legend_above(axes)
