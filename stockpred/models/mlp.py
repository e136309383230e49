"""A multilayer perceptron over the flattened context.

Axes: B samples, T context_length, F features.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from stockpred.config.forecast import RegressorConfig

SIGNATURE = "inputs_BTF -> forecast_B"
HIDDEN_DIM = 64
NUM_LAYERS = 2


class MLP(nn.Module):
    """Hidden layers of one width with GELU and dropout; the last layer begins at zero."""

    def __init__(self, num_inputs: int, hidden_dim: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        widths = [num_inputs, *[hidden_dim] * num_layers]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU(), nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(hidden_dim, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs_BTF: Tensor) -> Tensor:
        """Return forecast_B in model units."""
        forecast_B: Tensor = self.head(self.body(inputs_BTF.flatten(1))).squeeze(-1)
        return forecast_B


def build(config: RegressorConfig, *, num_features: int) -> MLP:
    """Return an MLP; 64 wide with 2 hidden layers unless the configuration says otherwise."""
    return MLP(
        config.context_length * num_features,
        config.hidden_dim or HIDDEN_DIM,
        config.num_layers or NUM_LAYERS,
        config.dropout,
    )
