"""Rivals against hand counts and known chains; what they may see and what they may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpred.data.splits import USED, Split
from stockpred.tasks.next_token import baselines
from stockpred.tasks.next_token.baselines import Bigram, Unigram
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.windows import Windows

MakeMarket = Callable[..., TokenDataset]


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
def test_every_row_of_a_bigram_is_a_distribution_and_says_what_log_probs_say(
    tokens: list[int], previous: int
) -> None:
    sequence = np.array(tokens)
    unigram = Unigram.fit(sequence, sequence, 5)
    bigram = Bigram.fit((sequence[:-1], sequence[1:]), (sequence[:-1], sequence[1:]), unigram)
    row = bigram.row(previous)
    assert row.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(np.log(row), bigram.log_probs(np.full(5, previous), np.arange(5)))


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
    assert -bigram.log_probs(test[:-1], test[1:]).mean() == pytest.approx(entropy, abs=0.02)


def test_where_pairs_tell_nothing_the_bigram_falls_back_to_the_unigram() -> None:
    rng = np.random.default_rng(1)
    train, held_out = rng.integers(0, 50, 4000), rng.integers(0, 50, 4000)
    unigram = Unigram.fit(train, held_out, 50)
    bigram = Bigram.fit((train[:-1], train[1:]), (held_out[:-1], held_out[1:]), unigram)
    np.testing.assert_allclose(bigram.row(7), unigram.probs_K, atol=0.005)


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
@pytest.mark.parametrize("stride", [3, 12])
def test_targets_are_exactly_those_of_the_windows(make_market: MakeMarket, split: Split, stride: int) -> None:
    market = make_market()
    windows = Windows(market, split, 12, stride)
    arrays = windows.gather(np.arange(len(windows)))
    np.testing.assert_array_equal(
        np.sort(arrays["position"][arrays["mask"]]), baselines.target_positions(market, split)
    )


@pytest.mark.parametrize("split", USED)
def test_pairs_never_cross_a_segment_nor_the_edge_of_a_split(make_market: MakeMarket, split: Split) -> None:
    market = make_market()
    targets = baselines.target_positions(market, split)
    segment = np.repeat(np.arange(len(market.segment_start)), market.segment_length)
    assert len(market.segment_start) == 7
    np.testing.assert_array_equal(segment[targets], segment[targets - 1])
    assert (market.split[targets] == split).all()
    if split is Split.TRAIN:
        assert (market.split[targets - 1] == Split.TRAIN).all()


def test_what_happens_after_training_changes_no_fit_on_the_training_period(make_market: MakeMarket) -> None:
    market = make_market()
    later = market.split == Split.TEST
    changed = replace(
        market,
        tokens=np.where(later, 0, market.tokens).astype(np.uint16),
        close_return=np.where(later, 9.9, market.close_return),
    )
    unigram, other = baselines.fit_unigram(market), baselines.fit_unigram(changed)
    np.testing.assert_array_equal(unigram.log_probs_K, other.log_probs_K)
    bigram, other_bigram = baselines.fit_bigram(market, unigram), baselines.fit_bigram(changed, other)
    np.testing.assert_array_equal(bigram.row(3), other_bigram.row(3))
    targets = baselines.target_positions(market, Split.VALIDATION)
    first, second = (baselines.score_unconditional(one, targets) for one in (market, changed))
    np.testing.assert_array_equal(first.crps, second.crps)


def test_ewma_volatility_is_the_recursion_and_never_reads_its_own_bar(make_market: MakeMarket) -> None:
    market = make_market(num_assets=2, num_days=120)
    found = baselines.ewma_volatility(market)
    for start, length in zip(market.segment_start, market.segment_length, strict=True):
        square = float(market.volatility[start]) ** 2
        for n in range(start, start + length):
            assert found[n] == pytest.approx(np.sqrt(square))
            square = 0.94 * square + 0.06 * market.close_return[n] ** 2


def test_the_ewma_normal_is_nearly_calibrated_where_volatility_clusters(make_market: MakeMarket) -> None:
    market = make_market(num_assets=20, num_days=800)
    scores = baselines.score_normal(market, baselines.target_positions(market, Split.TEST))
    assert scores.pit is not None
    assert np.mean(np.abs(scores.pit - 0.5) <= 0.45) == pytest.approx(0.9, abs=0.03)


def test_the_last_value_scores_its_absolute_error(make_market: MakeMarket) -> None:
    market = make_market()
    targets = baselines.target_positions(market, Split.TEST)
    scores = baselines.score_last_value(market, targets)
    np.testing.assert_array_equal(scores.crps, np.abs(market.close_return[targets]))
    assert scores.expected_return is not None
    assert not scores.expected_return.any()
