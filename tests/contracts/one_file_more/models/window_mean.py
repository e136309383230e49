"""A linear layer over the mean of the newest bars; a model with a setting of its own.

Axes: B samples, T context_length, F features.
"""

from __future__ import annotations

from torch import Tensor, nn

from stockpred.config.window_mean import WindowMeanConfig

SIGNATURE = "inputs_BTF -> forecast_B"


class WindowMean(nn.Module):
    """The order of the bars does not matter."""

    def __init__(self, num_features: int, num_newest: int) -> None:
        super().__init__()
        self.num_newest = num_newest
        self.head = nn.Linear(num_features, 1)

    def forward(self, inputs_BTF: Tensor) -> Tensor:
        """Return forecast_B in model units."""
        forecast_B: Tensor = self.head(inputs_BTF[:, -self.num_newest :].mean(1)).squeeze(-1)
        return forecast_B


def build(config: WindowMeanConfig, *, num_features: int) -> WindowMean:
    """Return a new model."""
    return WindowMean(num_features, config.num_newest)
