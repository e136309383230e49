"""Choose what to draw of next-bar forecasts and caption it; the drawing itself is in ``figures``."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stockpred.report.elements import Picture
from stockpred.tasks.next_token import figures
from stockpred.tasks.next_token.features import to_candles
from stockpred.tasks.next_token.results import TestResults
from stockpred.tasks.next_token.tokenizer import Tokenizer

NUM_FANS = 5
BARS_PER_FAN = 90
NUM_TOKENS = 14


def calibration(results: TestResults) -> tuple[Picture, ...]:
    model, rival = results.model, results.rival(results.best_crps_rival)
    if model.coverage_curve is None:
        return ()
    beside = None if rival.coverage_curve is None else (rival.label, np.asarray(rival.coverage_curve))
    svg = figures.coverage_curve(
        np.asarray(results.curve_levels),
        (model.label, np.asarray(model.coverage_curve)),
        beside,
    )
    return (Picture("Calibration", "Below the diagonal: bands too narrow. Above: too wide.", svg),)


def gains(predictions: pd.DataFrame) -> tuple[Picture, ...]:
    gain = predictions["rival_nll"] - predictions["nll"]
    by_time = gain.set_axis(pd.DatetimeIndex(predictions["time"])).sort_index(kind="stable")
    by_asset = gain.groupby(predictions["symbol"].astype(str)).mean()
    return (
        Picture(
            "Over time", "Mean gain in each calendar period of the test.", figures.gain_over_time(by_time)
        ),
        Picture("By asset", "Mean gain on each asset's test bars.", figures.gain_by_asset(by_asset)),
    )


def fans(predictions: pd.DataFrame) -> tuple[Picture, ...]:
    """Draw the last test bars of a few assets, taking the categories in turn."""
    pictures = []
    for symbol in _chosen(predictions):
        mine = (
            predictions[predictions["symbol"] == symbol].sort_values("time", kind="stable").tail(BARS_PER_FAN)
        )
        category = str(mine["category"].iloc[0])
        inside = (mine["realised_return"] >= mine["q05"]) & (mine["realised_return"] <= mine["q95"])
        caption = (
            f"{category}; the last {len(mine)} test bars, {inside.mean():.0%} of them inside the 90 % band."
        )
        pictures.append(Picture(symbol, caption, figures.forecast_fan(symbol, mine)))
    return tuple(pictures)


def tokens(tokenizer: Tokenizer) -> tuple[Picture, ...]:
    """Draw a few tokens across the vocabulary, evenly spaced by how often training bars fall on them."""
    by_return = np.argsort(tokenizer.close_return_z, kind="stable")
    share = np.cumsum(np.exp(tokenizer.log_unigram[by_return].astype(np.float64)))
    levels = (np.arange(NUM_TOKENS) + 0.5) / NUM_TOKENS
    chosen = by_return[np.minimum(np.searchsorted(share, levels), len(share) - 1)]
    candles = to_candles(tokenizer.decode(chosen), np.ones(len(chosen)), np.ones(len(chosen)))
    prices = np.log(np.stack([candles[name] for name in ("open", "high", "low", "close")], axis=1))
    caption = f"{len(chosen)} of {tokenizer.vocab_size:,} tokens from falls to rises, spread as bars are."
    return (Picture("What tokens stand for", caption, figures.token_candles(list(chosen), prices)),)


def _chosen(predictions: pd.DataFrame) -> list[str]:
    """Return assets in the universe's order, categories in turn; short histories are passed over."""
    first = predictions[["symbol", "category"]].drop_duplicates().sort_values("symbol", kind="stable")
    first = first.astype(str).set_index("symbol")
    num_bars = predictions["symbol"].astype(str).value_counts()
    first = first[num_bars.reindex(first.index) >= num_bars.max() / 2]
    turn = first.groupby("category", sort=False).cumcount()
    return [str(symbol) for symbol in turn.sort_values(kind="stable").index[:NUM_FANS]]
