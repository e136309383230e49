"""A GPT over bar tokens: causal, pre-norm, learned positions, embeddings of the asset and its category.

Axes: B samples, T bars, V tokens of the vocabulary, F features of a candle, D d_model, H heads.
With ``token_embedding: candle`` a token's vector is made from the candle it stands for, so that tokens that
look alike share what is learned about them; with ``table`` each token has a vector of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stockpred.config.next_token import TransformerConfig

SIGNATURE = "tokens_BT, asset_B, category_B -> logits_BTV"
INITIAL_STD = 0.02


class MarketGPT(nn.Module):
    """Next-token logits from the past: the log unigram prior plus the hidden state's product with the table.

    ``centroids_VF`` are the tokens' candles in standardised units, ``log_prior_V`` their log frequencies in
    training.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        centroids_VF: Tensor,
        log_prior_V: Tensor,
        num_assets: int,
        num_categories: int,
    ) -> None:
        super().__init__()
        vocab_size, num_features = centroids_VF.shape
        width = config.d_model
        self.centroids_VF: Tensor
        self.log_prior_V: Tensor
        self.register_buffer("centroids_VF", centroids_VF.clone())
        self.register_buffer("log_prior_V", log_prior_V.clone())
        self.tokens: nn.Module = (
            CandleTable(num_features, width)
            if config.token_embedding == "candle"
            else PlainTable(vocab_size, width)
        )
        self.positions = nn.Embedding(config.context_length, width)
        self.asset = LabelEmbedding(num_assets, config.asset_embed_dim, width)
        self.category = LabelEmbedding(num_categories, config.category_embed_dim, width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(width)
        self.apply(initialise)
        for name, parameter in self.blocks.named_parameters():
            # Residual branches start small in proportion to their number (Radford et al. 2019).
            if name.endswith("_out.weight"):
                nn.init.normal_(parameter, std=INITIAL_STD * (2 * config.num_layers) ** -0.5)

    def forward(self, tokens_BT: Tensor, asset_B: Tensor, category_B: Tensor) -> Tensor:
        """Return logits_BTV of the token after each position; T is at most the context length."""
        table_VD = self.tokens(self.centroids_VF)
        positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        labels_BD = self.asset(asset_B) + self.category(category_B)
        x_BTD = (
            functional.embedding(tokens_BT, table_VD) + self.positions(positions_T) + labels_BD.unsqueeze(1)
        )
        x_BTD = self.dropout(x_BTD)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV = functional.linear(self.norm(x_BTD), table_VD)
        return logits_BTV.float() + self.log_prior_V


class CandleTable(nn.Module):
    """A small MLP from a candle to its token's vector."""

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_features, width)
        self.out = nn.Linear(width, width)

    def forward(self, centroids_VF: Tensor) -> Tensor:
        table_VD: Tensor = self.out(functional.gelu(self.hidden(centroids_VF)))
        return table_VD


class PlainTable(nn.Module):
    """One learned vector for each token."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, width).normal_(std=INITIAL_STD))

    def forward(self, _centroids_VF: Tensor) -> Tensor:
        return self.weight


class LabelEmbedding(nn.Module):
    """An embedding of few dimensions, projected to the model's width."""

    def __init__(self, num_labels: int, embed_dim: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_labels, embed_dim)
        self.projection = nn.Linear(embed_dim, width, bias=False)

    def forward(self, label_B: Tensor) -> Tensor:
        vector_BD: Tensor = self.projection(self.embedding(label_B))
        return vector_BD


class Block(nn.Module):
    """Attention to the past, then an MLP, each added to what comes in."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.d_model
        self.num_heads = config.num_heads
        self.dropout_rate = config.dropout
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, config.d_ff, bias=False)
        self.mlp_out = nn.Linear(config.d_ff, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.dropout(self._attend(self.attention_norm(x_BTD)))
        hidden_BTM = functional.gelu(self.mlp_in(self.mlp_norm(x_BTD)))
        out_BTD: Tensor = x_BTD + self.dropout(self.mlp_out(hidden_BTM))
        return out_BTD

    def _attend(self, x_BTD: Tensor) -> Tensor:
        batch, length, width = x_BTD.shape
        projected = self.attention_in(x_BTD).view(batch, length, 3, self.num_heads, width // self.num_heads)
        query_BHTK, key_BHTK, value_BHTK = projected.permute(2, 0, 3, 1, 4)
        mixed_BHTK = functional.scaled_dot_product_attention(
            query_BHTK,
            key_BHTK,
            value_BHTK,
            is_causal=True,  # always, not only in training: evaluation must not see the future either
            dropout_p=self.dropout_rate if self.training else 0.0,
        )
        attended_BTD: Tensor = self.attention_out(mixed_BHTK.transpose(1, 2).reshape(batch, length, width))
        return attended_BTD


def build(
    config: TransformerConfig, *, centroids: Tensor, log_prior: Tensor, num_assets: int, num_categories: int
) -> MarketGPT:
    """Return a new model with random weights from torch's global generator."""
    return MarketGPT(
        config,
        centroids_VF=centroids,
        log_prior_V=log_prior,
        num_assets=num_assets,
        num_categories=num_categories,
    )


def initialise(module: nn.Module) -> None:
    """Give matrices and embeddings small normal weights (Radford et al. 2019)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, CandleTable):
        # Standardised features have unit variance: keep it through the hidden layer, and let the vectors
        # begin as small as a plain table's, so that the first logits are about the prior.
        nn.init.normal_(module.hidden.weight, std=module.hidden.in_features**-0.5)
        nn.init.normal_(module.out.weight, std=INITIAL_STD * module.out.in_features**-0.5)


def count_parameters(
    config: TransformerConfig, vocab_size: int, num_features: int, num_assets: int, num_categories: int
) -> int:
    """Return how many numbers training may change, counted on the model without allocating it."""
    with torch.device("meta"):
        model = build(
            config,
            centroids=torch.empty(vocab_size, num_features),
            log_prior=torch.empty(vocab_size),
            num_assets=num_assets,
            num_categories=num_categories,
        )
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def model_flops_per_token(config: TransformerConfig, vocab_size: int) -> int:
    """Return the floating-point operations of one token, forward and backward.

    Six for every weight that multiplies the token stream and 12 L D T for attention, not discounted for the
    causal mask (Chowdhery et al. 2022, PaLM, appendix B). Embeddings and positions do not count, the tied
    head counts once.
    """
    width = config.d_model
    num_weights = config.num_layers * (4 * width * width + 2 * width * config.d_ff) + vocab_size * width
    return 6 * num_weights + 12 * config.num_layers * width * config.context_length
