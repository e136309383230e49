"""The schema of an experiment: what a case says about data, model, learner and training.

Nothing has a hidden default: every value stands in ``cases/_base/config.yaml`` or in a case. Scalars arrive
as the text that was typed and are converted here. Importing this module is quick: no torch, no numpy.
"""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from hpc import yamlfile
from hpc.errors import raise_all


def _date(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a date; write YYYY-MM-DD") from None


Date = Annotated[date, BeforeValidator(_date)]
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of an experiment: frozen, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class SyntheticConfig(Section):
    """Bars made by a seeded simulation; ``num_bars`` per asset."""

    num_bars: PositiveInt
    seed: int
    start: Date


class DataConfig(Section):
    """Where bars come from and how time is split."""

    source: str
    dir: str | None
    universe: str
    start: Date | None
    end: Date | None
    split: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    stride: PositiveInt
    score_stride: PositiveInt | None
    max_hole_sessions: PositiveInt
    synthetic: SyntheticConfig

    @field_validator("split")
    @classmethod
    def _fills_the_timeline(cls, split: tuple[float, float, float]) -> tuple[float, float, float]:
        if not math.isclose(sum(split), 1.0, abs_tol=1e-6):
            raise ValueError(f"train, validation and test must sum to 1, got {sum(split):g}")
        return split

    @model_validator(mode="after")
    def _starts_before_it_ends(self) -> DataConfig:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start {self.start} is not before end {self.end}")
        return self


class TokenizerConfig(Section):
    """How a bar becomes one of ``vocab_size`` tokens; spans and windows in bars."""

    vocab_size: Annotated[int, Field(ge=2, le=65536)]
    volatility_span: Annotated[int, Field(ge=2)]
    volume_window: Annotated[int, Field(ge=2)]
    clip: PositiveFloat
    seed: int
    max_fit_bars: PositiveInt


class ModelConfig(Section):
    """The architecture and its size."""

    name: str
    context_length: Annotated[int, Field(ge=2)]
    d_model: PositiveInt
    num_layers: PositiveInt
    num_heads: PositiveInt
    d_ff: PositiveInt
    dropout: Fraction
    asset_embed_dim: PositiveInt
    category_embed_dim: PositiveInt
    token_embedding: Literal["candle", "table"]

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> ModelConfig:
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model {self.d_model} cannot be divided among {self.num_heads} heads")
        return self


class LearnerConfig(Section):
    """How the model learns."""

    name: str


class TrainingConfig(Section):
    """What the shared core needs; ``batch_size`` counts samples per rank and micro-batch."""

    seed: int
    epochs: PositiveInt
    max_steps: PositiveInt | None
    batch_size: PositiveInt
    accumulate: PositiveInt
    lr: PositiveFloat
    min_lr_fraction: Annotated[float, Field(ge=0.0, le=1.0)]
    warmup_fraction: Fraction
    weight_decay: Annotated[float, Field(ge=0.0)]
    beta1: Fraction
    beta2: Fraction
    gradient_clip: PositiveFloat
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    device: Literal["auto", "cuda", "cpu"]
    patience: PositiveInt
    evaluations_per_epoch: PositiveFloat
    checkpoint_every_s: Annotated[float, Field(ge=0.0)]
    keep_checkpoints: PositiveInt
    compile: bool
    exact: bool
    tensorboard: bool
    min_step_s: Annotated[float, Field(ge=0.0)]


class Experiment(Section):
    """One case with one preset and its overrides, ready to run."""

    data: DataConfig
    tokenizer: TokenizerConfig
    model: ModelConfig
    learner: LearnerConfig
    training: TrainingConfig

    @classmethod
    def load(cls, path: Path) -> Experiment:
        """Read the experiment's sections of a run's ``config.yaml``; raise every problem at once."""
        tree = yamlfile.load(path)
        sections = {name: value for name, value in tree.items() if name in cls.model_fields}
        experiment, problems = yamlfile.validate(cls, sections)
        raise_all(problems)
        assert experiment is not None
        return experiment
