"""A hand-made market of tokens, small enough to check by other means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from stockpred.score.field import Field
from stockpred.score.history import History
from stockpred.score.rival import Kind
from stockpred.tasks.next_token import token_rival
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.evaluate import Rivals
from stockpred.tasks.next_token.returns import TokenReturns
from stockpred.tasks.next_token.targets import asset_of_bars
from stockpred.tasks.next_token.tokenizer import FEATURES, Tokenizer

DAY_NS = 86_400_000_000_000
MakeMarket = Callable[..., TokenDataset]


def market(
    *,
    num_assets: int = 6,
    num_days: int = 420,
    vocab_size: int = 16,
    seed: int = 0,
) -> TokenDataset:
    """Return a market whose tokens are quantile bins of returns in units of known volatility.

    Assets share a daily shock; volatility clusters. The first asset has a hole, hence two segments.
    """
    rng = np.random.default_rng(seed)
    shape = (num_assets, num_days)
    log_volatility = np.zeros(shape)
    for day in range(1, num_days):
        log_volatility[:, day] = 0.9 * log_volatility[:, day - 1] + 0.2 * rng.standard_normal(num_assets)
    shocks = 0.6 * rng.standard_normal(num_days) + 0.8 * rng.standard_normal(shape)
    returns = 0.02 * np.exp(log_volatility) * shocks
    volatility = np.full(shape, 0.02)
    for day in range(1, num_days):
        volatility[:, day] = np.sqrt(0.95 * volatility[:, day - 1] ** 2 + 0.05 * returns[:, day - 1] ** 2)
    z = returns / volatility.astype(np.float32)
    centroids = np.zeros((vocab_size, len(FEATURES)), np.float32)
    centroids[:, 0] = np.quantile(z, (np.arange(vocab_size) + 0.5) / vocab_size)
    edges = (centroids[1:, 0] + centroids[:-1, 0]) / 2
    times = np.datetime64("2020-01-01", "ns").astype(np.int64) + np.arange(num_days) * DAY_NS
    present = np.ones(shape, bool)
    present[0, num_days // 3 : num_days // 3 + 20] = False
    return _assemble(returns, volatility, np.searchsorted(edges, z), times, present, centroids)


def history(market: TokenDataset) -> History:
    """Return the bars that the market's tokens could stand for, opening at the close before."""
    num = len(market.tokens)
    continues = np.ones(num, bool)
    continues[market.segment_start] = False
    opened = market.close * np.exp(-market.close_return)
    wick = 0.3 * market.volatility.astype(np.float64) * np.random.default_rng(0).random(num)
    asset = asset_of_bars(market)
    return History(
        open=opened,
        high=np.maximum(opened, market.close) * (1.0 + wick),
        low=np.minimum(opened, market.close) * (1.0 - wick),
        close=market.close,
        volume=np.ones(num),
        change=np.where(continues, np.expm1(market.close_return), np.nan),
        time=market.time,
        asset=pd.factorize(asset)[0].astype(np.int64),
        category=market.asset_category[asset].astype(np.int64),
        split=market.split,
    )


def rivals(market: TokenDataset, kinds: tuple[Kind, ...] = (Kind.POINT, Kind.CROSS_SECTION)) -> Rivals:
    """Return all rivals of tokens and those of returns that take no time to fit."""
    of_tokens = {name: token_rival.load(name).fit(market) for name in token_rival.names()}
    return Rivals(market, TokenReturns.of(market), of_tokens, Field(history(market), kinds))


def split_of(day: np.ndarray) -> np.ndarray:
    """Give 70 % of the days to training, 15 % to validation and 15 % to the test."""
    bounds = np.array([0.7, 0.85]) * (day.max() + 1)
    return np.searchsorted(bounds, day, side="right").astype(np.int8)


def _assemble(
    returns: np.ndarray,
    volatility: np.ndarray,
    tokens: np.ndarray,
    times: np.ndarray,
    present: np.ndarray,
    centroids: np.ndarray,
) -> TokenDataset:
    num_assets = len(returns)
    asset, day_index = np.nonzero(present)
    is_first = np.r_[True, (np.diff(asset) != 0) | (np.diff(day_index) != 1)]
    starts = np.flatnonzero(is_first).astype(np.int64)
    category = (np.arange(num_assets) % 2).astype(np.int32)
    vocab_size = len(centroids)
    return TokenDataset(
        tokens=tokens[present].astype(np.uint16),
        segment_start=starts,
        segment_length=np.diff(np.r_[starts, len(asset)]).astype(np.int64),
        segment_asset=asset[starts].astype(np.int32),
        segment_category=category[asset[starts]],
        time=times[day_index],
        close=(100.0 * np.exp(np.cumsum(returns, axis=1)))[present],
        volatility=volatility[present].astype(np.float32),
        close_return=returns[present],
        assets=tuple(f"A{index}" for index in range(num_assets)),
        categories=("crypto", "equity"),
        asset_category=category,
        row=np.arange(len(asset)),
        split=split_of(day_index),
        tokenizer=Tokenizer(
            centroids=centroids,
            log_unigram=np.full(vocab_size, -np.log(vocab_size), np.float32),
            mean=np.zeros(len(FEATURES)),
            scale=np.ones(len(FEATURES)),
            clip=5.0,
        ),
    )
