"""Rivals of tokens against hand counts, known chains and another library; what they may see and may not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from statsmodels.api import GLM, families

from hpc.base.errors import UserError
from stockpred.data.splits import Split
from stockpred.tasks.next_token import token_rival
from stockpred.tasks.next_token.rivals import log_linear
from stockpred.tasks.next_token.rivals.bigram import Bigram
from stockpred.tasks.next_token.rivals.log_linear import Sample
from stockpred.tasks.next_token.rivals.unigram import Unigram
from stockpred.tasks.next_token.targets import next_tokens, target_positions
from tests.stockpred.token_market import MakeMarket

NAMES = token_rival.names()


def test_rivals_are_found_by_the_names_of_their_files() -> None:
    assert {"unigram", "bigram", "log_linear"} <= set(NAMES)
    with pytest.raises(UserError, match="there is no rival 'trigram'"):
        token_rival.load("trigram")


# Every rival.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_every_forecast_is_a_distribution_over_all_tokens(
    make_market: MakeMarket, name: str, split: Split
) -> None:
    market = make_market()
    positions = target_positions(market, split)
    log_probs = token_rival.load(name).fit(market).log_probs(positions)
    assert log_probs.shape == (len(positions), market.tokenizer.vocab_size)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_happens_after_validation_fits_and_chooses_nothing(make_market: MakeMarket, name: str) -> None:
    market = make_market()
    later = market.split == Split.TEST
    changed = replace(
        market,
        tokens=np.where(later, 0, market.tokens).astype(np.uint16),
        close_return=np.where(later, 9.9, market.close_return),
    )
    first, second = (token_rival.load(name).fit(one) for one in (market, changed))
    assert first.settings == second.settings
    positions = target_positions(market, Split.VALIDATION)
    np.testing.assert_array_equal(first.log_probs(positions), second.log_probs(positions))


@pytest.mark.parametrize("name", NAMES)
def test_a_forecast_reads_bars_before_its_own_alone(make_market: MakeMarket, name: str) -> None:
    market = make_market(num_assets=2)
    positions = target_positions(market, Split.TEST)
    before, chosen = positions[:-20], positions[-21]  # of the last asset: all later bars are test bars
    tokens = market.tokens.copy()
    tokens[chosen:] = (tokens[chosen:] + 7) % market.tokenizer.vocab_size
    others = replace(market, tokens=tokens, close=market.close + 1.0, close_return=-market.close_return)
    first, second = (token_rival.load(name).fit(one) for one in (market, others))
    np.testing.assert_array_equal(first.log_probs(before), second.log_probs(before))


@pytest.mark.parametrize("name", ["bigram", "log_linear"])
def test_a_rival_with_a_memory_uses_the_bar_before(make_market: MakeMarket, name: str) -> None:
    market = make_market(num_assets=2)
    chosen = target_positions(market, Split.TEST)[20:21]
    tokens = market.tokens.copy()
    tokens[chosen - 1] = 0 if tokens[chosen - 1] else 15
    first, second = (
        token_rival.load(name).fit(one).log_probs(chosen) for one in (market, replace(market, tokens=tokens))
    )
    assert np.abs(first - second).max() > 1e-3


# Unigram and bigram.


def test_a_unigram_is_the_smoothed_frequency_of_training_tokens() -> None:
    unigram = Unigram.fit(np.array([0, 0, 0, 1]), np.array([0, 1, 2]), vocab_size=3)
    counts = np.array([3.0, 1.0, 0.0]) + unigram.alpha
    np.testing.assert_allclose(unigram.probs_K, counts / counts.sum())


def test_smoothing_is_the_one_that_validation_tokens_like_best() -> None:
    train, held_out = np.array([0] * 9 + [1]), np.array([0, 1, 2, 2])
    chosen = Unigram.fit(train, held_out, 3)
    counts = np.bincount(train, minlength=3)

    def likelihood(alpha: float) -> float:
        return float(np.log((counts + alpha) / (counts + alpha).sum())[held_out].sum())

    assert likelihood(chosen.alpha) == max(likelihood(alpha) for alpha in np.geomspace(1e-3, 1e3, 25))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(0, 4))
def test_every_row_of_a_bigram_is_a_distribution_and_says_what_its_pairs_say(
    tokens: list[int], previous: int
) -> None:
    sequence = np.array(tokens)
    unigram = Unigram.fit(sequence, sequence, 5)
    bigram = Bigram.fit((sequence[:-1], sequence[1:]), (sequence[:-1], sequence[1:]), unigram)
    row = bigram.row(previous)
    assert row.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(np.log(row), bigram.pair_log_probs(np.full(5, previous), np.arange(5)))


def test_a_bigram_is_counts_and_prior_as_in_its_formula() -> None:
    pairs = (np.array([0, 0, 0, 1]), np.array([1, 1, 2, 0]))
    unigram = Unigram(np.log(np.array([0.5, 0.3, 0.2])), alpha=1.0)
    bigram = replace(Bigram.fit(pairs, pairs, unigram), tau=2.0)
    np.testing.assert_allclose(bigram.row(0), [(0 + 1.0) / 5, (2 + 0.6) / 5, (1 + 0.4) / 5])


def test_a_bigram_reaches_the_entropy_of_the_chain_it_is_fitted_on() -> None:
    rng = np.random.default_rng(0)
    transition = rng.dirichlet(np.full(6, 0.3), size=6)
    chain = [0]
    for draw in rng.random(60_000):
        chain.append(int(np.searchsorted(transition[chain[-1]].cumsum(), draw)))
    tokens = np.minimum(np.array(chain), 5)
    train, held_out, test = tokens[:40_000], tokens[40_000:50_000], tokens[50_000:]
    unigram = Unigram.fit(train, held_out, 6)
    bigram = Bigram.fit((train[:-1], train[1:]), (held_out[:-1], held_out[1:]), unigram)
    stationary = np.bincount(tokens, minlength=6) / len(tokens)
    safe = np.where(transition > 0, transition, 1.0)
    entropy = -(stationary[:, None] * transition * np.log(safe)).sum()
    assert -bigram.pair_log_probs(test[:-1], test[1:]).mean() == pytest.approx(entropy, abs=0.02)


def test_where_pairs_tell_nothing_the_bigram_falls_back_to_the_unigram() -> None:
    rng = np.random.default_rng(1)
    train, held_out = rng.integers(0, 50, 4000), rng.integers(0, 50, 4000)
    unigram = Unigram.fit(train, held_out, 50)
    bigram = Bigram.fit((train[:-1], train[1:]), (held_out[:-1], held_out[1:]), unigram)
    np.testing.assert_allclose(bigram.row(7), unigram.probs_K, atol=0.005)


def test_a_fitted_bigram_forecasts_the_row_of_the_last_token(make_market: MakeMarket) -> None:
    market = make_market()
    fitted = token_rival.load("bigram").fit(market)
    positions = target_positions(market, Split.TEST)[:50]
    rows = [fitted.bigram.row(int(token)) for token in market.tokens[positions - 1]]  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.exp(fitted.log_probs(positions)), rows)


# The log-linear rival.


def sample_of(num: int, num_tokens: int, seed: int = 0) -> tuple[Sample, np.ndarray, np.ndarray, np.ndarray]:
    """Return targets drawn from a known log-linear model, its traits, its log prior and its weights."""
    rng = np.random.default_rng(seed)
    traits, prior = rng.standard_normal((num_tokens, 3)), rng.dirichlet(np.full(num_tokens, 5.0))
    known = np.c_[np.ones(num), rng.standard_normal((num, 2))].astype(np.float32)
    weights = 0.5 * rng.standard_normal((3, 3))
    probs = np.exp(known @ weights @ traits.T + np.log(prior))
    probs /= probs.sum(axis=1, keepdims=True)
    draws = rng.random(num)[:, None]
    tokens = np.minimum((probs.cumsum(axis=1) < draws).sum(axis=1), num_tokens - 1)
    return Sample(known, tokens), traits.astype(np.float32), np.log(prior).astype(np.float32), weights


def test_the_gradient_is_that_of_finite_differences() -> None:
    sample, traits, log_prior, _ = sample_of(400, 12)
    at = 0.3 * np.random.default_rng(5).standard_normal((3, 3))

    def value(weights: np.ndarray) -> float:
        return log_linear.loss(weights.reshape(3, 3), sample, traits, log_prior, 0.2)[0]

    _, gradient = log_linear.loss(at, sample, traits, log_prior, 0.2)
    np.testing.assert_allclose(gradient.ravel(), approx_fprime(at.ravel(), value, 1e-2), atol=2e-2)


def test_the_loss_is_the_mean_surprise_of_the_formula() -> None:
    sample, traits, log_prior, weights = sample_of(7, 4)
    surprises = []
    for known, token in zip(sample.known_MX.astype(float), sample.token_M, strict=True):
        terms = [
            math.exp(
                log_prior[k]
                + sum(known[x] * weights[x, p] * traits[k, p] for x in range(3) for p in range(3))
            )
            for k in range(4)
        ]
        surprises.append(-math.log(terms[token] / sum(terms)))
    penalised = sum(surprises) / 7 + 0.5 * 0.1 * sum(weight**2 for weight in weights.ravel())
    assert log_linear.loss(weights, sample, traits, log_prior, 0.1)[0] == pytest.approx(penalised, rel=1e-5)


def test_with_two_tokens_it_is_the_logistic_regression_of_statsmodels() -> None:
    rng = np.random.default_rng(3)
    known = np.c_[np.ones(3000), rng.standard_normal((3000, 2))].astype(np.float32)
    chance = 1.0 / (1.0 + np.exp(-(known @ [0.4, -0.8, 0.3])))
    token = (rng.random(3000) < chance).astype(np.int64)
    traits, log_prior = np.array([[0.0], [1.0]], np.float32), np.log(np.array([0.5, 0.5], np.float32))
    found = log_linear._fitted(np.zeros((3, 1)), Sample(known, token), traits, log_prior, 0.0)
    theirs = GLM(token, known.astype(np.float64), family=families.Binomial()).fit().params
    np.testing.assert_allclose(found.ravel(), theirs, atol=2e-3)


def test_it_reaches_the_entropy_of_the_model_that_drew_its_tokens() -> None:
    sample, traits, log_prior, weights = sample_of(40_000, 12)
    train, held_out = (
        Sample(sample.known_MX[rows], sample.token_M[rows])
        for rows in (slice(0, 30_000), slice(30_000, None))
    )
    found, penalty = log_linear._chosen(
        train, held_out, traits.astype(np.float64), log_prior.astype(np.float64)
    )
    reached, truth, nothing = (
        log_linear.loss(one, held_out, traits, log_prior, 0.0)[0] for one in (found, weights, 0.0 * weights)
    )
    assert reached == pytest.approx(truth, abs=0.003)
    assert nothing > truth + 0.1
    assert penalty < 0.1, "with so many targets little is held back"


def test_where_the_past_tells_nothing_it_stays_at_the_unigram() -> None:
    rng = np.random.default_rng(2)
    sample, traits, log_prior, _ = sample_of(2000, 12)
    blind = Sample(
        sample.known_MX,
        rng.choice(12, 2000, p=np.exp(log_prior.astype(float)) / np.exp(log_prior.astype(float)).sum()),
    )
    halves = [
        Sample(blind.known_MX[rows], blind.token_M[rows]) for rows in (slice(0, 1000), slice(1000, None))
    ]
    found, _ = log_linear._chosen(*halves, traits.astype(np.float64), log_prior.astype(np.float64))
    nats, prior_nats = (
        log_linear.loss(one, halves[1], traits, log_prior, 0.0)[0] for one in (found, 0.0 * found)
    )
    assert nats == pytest.approx(prior_nats, abs=0.01)


def test_traits_are_uncorrelated_under_the_prior() -> None:
    rng = np.random.default_rng(0)
    centroids, prior = rng.standard_normal((200, 5)), rng.dirichlet(np.ones(200))
    traits = log_linear.traits(centroids, prior)
    assert traits.shape == (200, 13)
    np.testing.assert_allclose(prior @ traits, 0.0, atol=1e-9)
    np.testing.assert_allclose(traits.T @ (prior[:, None] * traits), np.eye(13), atol=1e-6)


def test_a_feature_that_never_differs_is_no_trait() -> None:
    centroids = np.random.default_rng(0).standard_normal((50, 5))
    centroids[:, 2:] = 0.0
    assert log_linear.traits(centroids, np.full(50, 0.02)).shape == (50, 6)


def test_what_is_known_is_the_moving_average_of_the_candles_before(make_market: MakeMarket) -> None:
    market = make_market(num_assets=2, num_days=60)
    known = log_linear.known_before(market)
    assert known.shape == (len(market.tokens), 1 + 5 * len(log_linear.SPANS))
    assert (known[:, 0] == 1.0).all()
    returns = market.tokenizer.close_return_z[market.tokens].astype(float)
    for column, values in ((1, np.abs(returns)), (5, returns)):
        expected = np.full(len(returns), np.nan)
        for start, length in zip(market.segment_start, market.segment_length, strict=True):
            decay = 1.0 - 2.0 / (log_linear.SPANS[0] + 1.0)
            for n in range(start + 1, start + length):
                weight = decay ** np.arange(n - start)[::-1]
                expected[n] = (weight * values[start:n]).sum() / weight.sum()
        training = expected[target_positions(market, Split.TRAIN)]
        standard = (expected - training.mean()) / training.std()
        targets = np.isfinite(standard)
        np.testing.assert_allclose(known[targets, column], standard[targets], rtol=1e-4, atol=1e-4)


def test_many_targets_are_thinned_evenly(make_market: MakeMarket, monkeypatch: pytest.MonkeyPatch) -> None:
    market = make_market()
    monkeypatch.setattr(log_linear, "MAX_FIT_CELLS", 100 * market.tokenizer.vocab_size)
    fitted = log_linear.fit(market)
    assert fitted.settings["training_targets"] == 100


def test_it_beats_unigram_and_bigram_where_volatility_clusters(make_market: MakeMarket) -> None:
    market = make_market(num_assets=12, num_days=900, vocab_size=64)
    positions = target_positions(market, Split.TEST)
    tokens = next_tokens(market, positions)
    nats = {
        name: -token_rival.load(name).fit(market).log_probs(positions)[np.arange(len(tokens)), tokens].mean()
        for name in ("unigram", "bigram", "log_linear")
    }
    assert nats["log_linear"] < min(nats["unigram"], nats["bigram"]) - 0.005
