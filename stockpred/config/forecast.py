"""The schema of experiments that forecast the next close of one asset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stockpred.config.base import ConfigSection, Experiment, ModelConfig, PositiveInt

Feature = Literal["open", "high", "low", "close", "volume"]


def _distinct(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    if len(set(features)) < len(features):
        raise ValueError("a feature stands twice")
    return features


class SeriesConfig(ConfigSection):
    """What the model sees of a bar.

    ``inputs`` are ``changes`` against the close before, or ``levels`` as they are quoted; both are
    standardised on training dates. ``features`` are listed by the asset's category in the universe.
    """

    inputs: Literal["changes", "levels"]
    features: Mapping[str, Annotated[tuple[Feature, ...], Field(min_length=1), AfterValidator(_distinct)]]


class RegressorConfig(ModelConfig):
    """The size of a regressor; None for the architecture's own usual size."""

    hidden_dim: PositiveInt | None
    num_layers: PositiveInt | None


class ForecastExperiment(Experiment):
    """One asset's bars, and a model that forecasts its next close."""

    series: SeriesConfig
    model: RegressorConfig


SCHEMA = ForecastExperiment
