"""A linear layer over the newest bar alone.

Axes: B samples, T context_length, F features.
"""

from __future__ import annotations

from torch import Tensor, nn

from stockpred.config.forecast import RegressorConfig

SIGNATURE = "inputs_BTF -> forecast_B"


class NewestBar(nn.Module):
    """The older bars of the context are not looked at."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.head = nn.Linear(num_features, 1)

    def forward(self, inputs_BTF: Tensor) -> Tensor:
        """Return forecast_B in model units."""
        forecast_B: Tensor = self.head(inputs_BTF[:, -1]).squeeze(-1)
        return forecast_B


def build(config: RegressorConfig, *, num_features: int) -> NewestBar:
    """Return a new model."""
    return NewestBar(num_features)
