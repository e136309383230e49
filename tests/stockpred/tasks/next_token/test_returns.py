"""What a forecast of tokens says about the return: scores by definition, by integration and by scipy."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from stockpred.data.splits import Split
from stockpred.score import metrics
from stockpred.score.forecasts import QUANTILE_LEVELS
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.returns import (
    DEGREES,
    MIN_DEVIATION,
    OWN_BARS,
    TokenForecasts,
    TokenReturns,
)
from stockpred.tasks.next_token.targets import target_positions
from tests.stockpred.token_market import MakeMarket


def volatile(market: TokenDataset, factor: float = 4.0) -> TokenDataset:
    """Return the market with returns so large that simple and log returns differ."""
    return replace(
        market,
        close_return=factor * market.close_return,
        volatility=(factor * market.volatility).astype(np.float32),
    )


def some_log_probs(num: int, vocab_size: int) -> np.ndarray:
    return np.asarray(np.log(np.random.default_rng(1).dirichlet(np.full(vocab_size, 0.7), size=num)))


def reduced(market: TokenDataset, num: int = 12) -> tuple[TokenReturns, TokenForecasts, np.ndarray]:
    positions = target_positions(market, Split.TEST)[:num]
    log_probs = some_log_probs(num, market.tokenizer.vocab_size)
    returns = TokenReturns.of(market)
    return returns, returns.forecasts(positions, log_probs), np.exp(log_probs)


def atoms_of(market: TokenDataset, position: int) -> np.ndarray:
    """Return the simple return that each token stands for at a bar, one by one."""
    volatility = float(market.volatility[position])
    return np.array([math.exp(float(z) * volatility) - 1.0 for z in market.tokenizer.close_return_z])


def test_crps_is_the_integral_of_its_definition(make_market: MakeMarket) -> None:
    market = volatile(make_market())
    _, found, probs = reduced(market)
    for m, position in enumerate(found.positions):
        atoms, outcome = atoms_of(market, position), math.exp(market.close_return[position]) - 1.0
        edges = np.sort(np.r_[atoms, outcome])
        middles, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
        below = np.array([probs[m][atoms <= x].sum() for x in middles])
        expected = ((below - (middles >= outcome)) ** 2 * widths).sum()
        assert found.crps[m] == pytest.approx(expected, rel=1e-9)


def test_expected_return_pit_and_quantiles_are_those_of_the_points(make_market: MakeMarket) -> None:
    market = volatile(make_market())
    _, found, probs = reduced(market)
    for m, position in enumerate(found.positions):
        atoms, outcome = atoms_of(market, position), math.exp(market.close_return[position]) - 1.0
        assert found.expected_return[m] == pytest.approx(float(probs[m] @ atoms))
        assert found.pit[m] == pytest.approx(float(probs[m][atoms < outcome].sum()))
        for level, quantile in zip(QUANTILE_LEVELS, found.quantiles_MQ[m], strict=True):
            assert probs[m][atoms <= quantile + 1e-12].sum() >= level
            assert probs[m][atoms < quantile - 1e-12].sum() < level


def test_nats_are_the_surprise_of_the_token_that_came(make_market: MakeMarket) -> None:
    market = make_market()
    _, found, probs = reduced(market)
    expected = [-math.log(probs[m][market.tokens[n]]) for m, n in enumerate(found.positions)]
    np.testing.assert_allclose(found.nats, expected)


def test_with_small_volatility_simple_returns_score_as_log_returns(make_market: MakeMarket) -> None:
    market = volatile(make_market(), 1e-4)
    _, found, probs = reduced(market)
    order = np.argsort(market.tokenizer.close_return_z, kind="stable")
    support = market.tokenizer.close_return_z[order].astype(float)
    volatility = market.volatility[found.positions].astype(float)
    outcome = market.close_return[found.positions] / volatility
    own = probs[:, order]
    crps = volatility * metrics.crps_discrete(own, own.cumsum(axis=1), support, outcome)
    np.testing.assert_allclose(found.crps, crps, rtol=1e-4)
    np.testing.assert_allclose(found.expected_return, volatility * (own @ support), rtol=1e-3, atol=1e-10)


def test_the_density_of_the_simple_return_integrates_to_one(make_market: MakeMarket) -> None:
    market = volatile(make_market())
    returns, found, probs = reduced(market, 3)
    for m, position in enumerate(found.positions):
        volatility = float(market.volatility[position])
        own = probs[m][returns.order]

        def density(change: float, own: np.ndarray = own, volatility: float = volatility) -> float:
            z = math.log1p(change) / volatility
            log_density = returns.log_density(own[None], np.array([z]), np.array([volatility]))
            return math.exp(log_density[0])

        points = list(np.expm1(volatility * np.linspace(-6.0, 6.0, 25)))
        pieces = [integrate.quad(density, low, high)[0] for low, high in pairwise(points)]
        tails = (
            integrate.quad(density, -1.0 + 1e-12, points[0])[0] + integrate.quad(density, points[-1], 50.0)[0]
        )
        assert sum(pieces) + tails == pytest.approx(1.0, abs=1e-3)


def test_log_loss_is_minus_the_log_of_scipys_mixture_after_the_change_of_variables(
    make_market: MakeMarket,
) -> None:
    market = volatile(make_market())
    returns, found, probs = reduced(market)
    scale = returns.deviation * math.sqrt(stats.t.var(DEGREES)) ** -1
    for m, position in enumerate(found.positions):
        volatility, own = float(market.volatility[position]), probs[m][returns.order]
        outcome = math.exp(market.close_return[position]) - 1.0

        def cumulative(change: float, own: np.ndarray = own, volatility: float = volatility) -> float:
            z = math.log(1.0 + change) / volatility
            return float(own @ stats.t.cdf(z, DEGREES, loc=returns.mean, scale=scale))

        step = 1e-6
        density = (cumulative(outcome + step) - cumulative(outcome - step)) / (2.0 * step)
        assert found.log_loss[m] == pytest.approx(-math.log(density), abs=1e-5)


def test_kernels_are_mean_and_shrunk_deviation_of_training_bars(make_market: MakeMarket) -> None:
    market = make_market()
    returns = TokenReturns.of(market)
    z = market.close_return / market.volatility.astype(float)
    groups = [z[(market.split == Split.TRAIN) & (market.tokens == token)] for token in range(16)]
    pooled = sum(((own - own.mean()) ** 2).sum() for own in groups) / sum(len(own) - 1 for own in groups)
    for place, token in enumerate(returns.order):
        own = groups[token]
        variance = (((own - own.mean()) ** 2).sum() + OWN_BARS * pooled) / (len(own) + OWN_BARS)
        assert returns.mean[place] == pytest.approx(own.mean())
        assert returns.deviation[place] == pytest.approx(math.sqrt(variance))


def test_a_token_that_training_never_saw_has_its_own_point_and_the_pooled_deviation(
    make_market: MakeMarket,
) -> None:
    market = make_market()
    unseen = replace(market, tokens=np.where(market.tokens == 3, 4, market.tokens).astype(np.uint16))
    returns = TokenReturns.of(unseen)
    place = list(returns.order).index(3)
    assert returns.mean[place] == pytest.approx(float(market.tokenizer.close_return_z[3]))
    assert returns.deviation.min() < returns.deviation[place] < returns.deviation.max()


def test_deviations_have_a_floor(make_market: MakeMarket) -> None:
    market = make_market()
    z = market.tokenizer.close_return_z[market.tokens].astype(float)
    exact = replace(market, close_return=z * market.volatility.astype(float))
    np.testing.assert_allclose(TokenReturns.of(exact).deviation, MIN_DEVIATION)


def test_what_happens_after_training_changes_no_kernel(make_market: MakeMarket) -> None:
    market = make_market()
    later = market.split != Split.TRAIN
    changed = replace(
        market,
        tokens=np.where(later, 0, market.tokens).astype(np.uint16),
        close_return=np.where(later, 9.9, market.close_return),
    )
    first, second = TokenReturns.of(market), TokenReturns.of(changed)
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.deviation, second.deviation)


def test_slices_change_nothing(make_market: MakeMarket) -> None:
    market = make_market(num_assets=20, num_days=6000)
    positions = target_positions(market, Split.TEST)
    assert len(positions) > 1 << 13, "more than one slice"
    log_probs = some_log_probs(len(positions), 16)
    returns = TokenReturns.of(market)
    whole = returns.forecasts(positions, log_probs)
    joined = TokenForecasts.joined(list(returns.reduce(positions, lambda few: log_probs[few])))
    np.testing.assert_allclose(joined.crps, whole.crps, rtol=1e-12)
    np.testing.assert_array_equal(joined.positions, whole.positions)
    np.testing.assert_allclose(joined.quantiles_MQ, whole.quantiles_MQ)
