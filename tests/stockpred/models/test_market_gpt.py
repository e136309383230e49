"""Causality, sizes and closed forms of the GPT over bars."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from stockpred.config.next_token import TransformerConfig
from stockpred.models import market_gpt
from stockpred.tasks.next_token.tokenizer import FEATURES

VOCAB_SIZE = 32
PUBLISHED = {  # vocab_size, context_length, d_model, num_layers, num_heads, d_ff -> millions of parameters
    "full_market": ((4096, 512, 768, 12, 12, 3072), 88.0),
    "reduced": ((2048, 256, 512, 8, 8, 2048), 26.0),
    "crypto": ((1024, 128, 256, 6, 8, 1024), 5.0),
}


def config(**changes: Any) -> TransformerConfig:
    small = {
        "name": "market_gpt",
        "context_length": 16,
        "d_model": 32,
        "num_layers": 2,
        "num_heads": 4,
        "d_ff": 64,
        "dropout": 0.1,
        "asset_embed_dim": 8,
        "category_embed_dim": 4,
        "token_embedding": "candle",
    }
    return TransformerConfig.model_validate(small | changes)


def build(**changes: Any) -> market_gpt.MarketGPT:
    torch.manual_seed(0)
    return market_gpt.build(
        config(**changes),
        centroids=torch.randn(VOCAB_SIZE, 5),
        log_prior=torch.randn(VOCAB_SIZE).log_softmax(0),
        num_assets=3,
        num_categories=2,
    )


def inputs(batch: int = 4, length: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCAB_SIZE, (batch, length), generator=generator)
    return tokens, torch.arange(batch) % 3, torch.arange(batch) % 2


@pytest.mark.parametrize("token_embedding", ["candle", "table"])
@pytest.mark.parametrize("is_training", [True, False])
def test_bars_after_t_change_no_logit_at_or_before_t(token_embedding: str, is_training: bool) -> None:
    model = build(token_embedding=token_embedding).train(is_training)
    tokens, asset, category = inputs()
    torch.manual_seed(7)
    logits = model(tokens, asset, category)
    for t in (0, 5, 14):
        changed = tokens.clone()
        changed[:, t + 1 :] = (changed[:, t + 1 :] + 11) % VOCAB_SIZE
        torch.manual_seed(7)  # the same dropout
        perturbed = model(changed, asset, category)
        assert torch.equal(perturbed[:, : t + 1], logits[:, : t + 1])
        assert not torch.equal(perturbed[:, t + 1 :], logits[:, t + 1 :])


def test_a_prefix_alone_has_the_logits_that_it_has_in_a_longer_window() -> None:
    model = build().eval()
    tokens, asset, category = inputs()
    whole = model(tokens, asset, category)
    torch.testing.assert_close(model(tokens[:, :6], asset, category), whole[:, :6], atol=1e-5, rtol=1e-5)


def test_asset_and_category_are_seen() -> None:
    model = build().eval()
    tokens, asset, category = inputs()
    logits = model(tokens, asset, category)
    assert not torch.equal(model(tokens, (asset + 1) % 3, category), logits)
    assert not torch.equal(model(tokens, asset, 1 - category), logits)


@pytest.mark.parametrize("token_embedding", ["candle", "table"])
def test_before_training_the_forecast_is_about_the_prior(token_embedding: str) -> None:
    model = build(token_embedding=token_embedding, d_model=256, num_heads=8).eval()
    log_probs = model(*inputs()).log_softmax(-1)
    divergence = (log_probs.exp() * (log_probs - model.log_prior_V)).sum(-1)
    assert divergence.mean() < 0.3


def test_equal_candles_are_equal_tokens_only_when_made_from_the_candle() -> None:
    twins = torch.randn(VOCAB_SIZE, 5)
    twins[1] = twins[0]
    for token_embedding, is_same in (("candle", True), ("table", False)):
        model = market_gpt.build(
            config(token_embedding=token_embedding, dropout=0.0),
            centroids=twins,
            log_prior=torch.zeros(VOCAB_SIZE),
            num_assets=1,
            num_categories=1,
        )
        label = torch.zeros(1, dtype=torch.int64)
        first, second = (model(torch.full((1, 4), token), label, label) for token in (0, 1))
        assert torch.equal(first, second) is is_same


@pytest.mark.parametrize("case", PUBLISHED)
def test_the_cases_have_their_published_sizes(case: str) -> None:
    (vocab_size, context_length, d_model, num_layers, num_heads, d_ff), millions = PUBLISHED[case]
    asked = config(
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
        d_ff=d_ff,
        token_embedding="table",
    )
    counted = market_gpt.count_parameters(
        asked, vocab_size, num_features=len(FEATURES), num_assets=100, num_categories=5
    )
    assert counted / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("token_embedding", ["candle", "table"])
def test_the_size_counted_without_allocating_is_the_size_built(token_embedding: str) -> None:
    asked = config(token_embedding=token_embedding)
    built = build(token_embedding=token_embedding)
    assert market_gpt.count_parameters(asked, VOCAB_SIZE, len(FEATURES), 3, 2) == sum(
        weight.numel() for weight in built.parameters()
    )


def test_operations_per_token_follow_the_formula_of_palm() -> None:
    asked = config(context_length=128, d_model=256, num_layers=6, num_heads=8, d_ff=1024)
    per_token = 6 * (12 * 6 * 256**2 + 1024 * 256) + 12 * 6 * 256 * 128
    assert market_gpt.model_flops_per_token(asked, 1024) == per_token == 32_243_712


def test_attention_and_mlp_are_those_of_the_textbook() -> None:
    """One block against a spelled-out softmax attention with a triangular mask."""
    block = market_gpt.Block(config(dropout=0.0, d_model=8, num_heads=2)).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    normed = torch.nn.functional.layer_norm(x, (8,), block.attention_norm.weight, block.attention_norm.bias)
    query, key, value = (normed @ block.attention_in.weight.T).split(8, dim=-1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[..., head] @ key[..., head].transpose(1, 2) / math.sqrt(4)
        scores = scores.masked_fill(torch.triu(torch.ones(5, 5, dtype=torch.bool), 1), -math.inf)
        heads.append(scores.softmax(-1) @ value[..., head])
    x_attended = x + torch.cat(heads, -1) @ block.attention_out.weight.T
    normed = torch.nn.functional.layer_norm(x_attended, (8,))
    hidden = normed @ block.mlp_in.weight.T
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    torch.testing.assert_close(block(x), x_attended + hidden @ block.mlp_out.weight.T)
