"""The schema of experiments that learn to predict the next bar as a token."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stockpred.config.base import (
    ConfigSection,
    DataConfig,
    Experiment,
    ModelConfig,
    PositiveFloat,
    PositiveInt,
)


class TokenDataConfig(DataConfig):
    """How windows of tokens are laid over the bars; strides in bars."""

    stride: PositiveInt
    score_stride: PositiveInt | None


class TokenizerConfig(ConfigSection):
    """How a bar becomes one of ``vocab_size`` tokens; spans and windows in bars."""

    vocab_size: Annotated[int, Field(ge=2, le=65536)]
    volatility_span: Annotated[int, Field(ge=2)]
    volume_window: Annotated[int, Field(ge=2)]
    clip: PositiveFloat
    seed: int
    max_fit_bars: PositiveInt


class TransformerConfig(ModelConfig):
    """The size of a transformer over tokens."""

    context_length: Annotated[int, Field(ge=2)]
    d_model: PositiveInt
    num_layers: PositiveInt
    num_heads: PositiveInt
    d_ff: PositiveInt
    asset_embed_dim: PositiveInt
    category_embed_dim: PositiveInt
    token_embedding: Literal["candle", "table"]

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model {self.d_model} cannot be divided among {self.num_heads} heads")
        return self


class NextTokenExperiment(Experiment):
    """Bars as tokens, and a transformer that predicts the next one."""

    data: TokenDataConfig
    tokenizer: TokenizerConfig
    model: TransformerConfig


SCHEMA = NextTokenExperiment
