"""Stacked LSTMs whose last state is read out (Hochreiter and Schmidhuber 1997).

Axes: B samples, T context_length, F features, H hidden_dim.
"""

from __future__ import annotations

from torch import Tensor, nn

from stockpred.config.forecast import RegressorConfig

SIGNATURE = "inputs_BTF -> forecast_B"
HIDDEN_DIM = 256
NUM_LAYERS = 3


class LSTM(nn.Module):
    """Layers of one width with dropout after each; the layer that reads out begins at zero."""

    def __init__(self, num_features: int, hidden_dim: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0  # torch warns of dropout between the layers of one
        self.body = nn.LSTM(num_features, hidden_dim, num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs_BTF: Tensor) -> Tensor:
        """Return forecast_B in model units."""
        states_BTH, _ = self.body(inputs_BTF)
        forecast_B: Tensor = self.head(self.dropout(states_BTH[:, -1])).squeeze(-1)
        return forecast_B


def build(config: RegressorConfig, *, num_features: int) -> LSTM:
    """Return an LSTM; 256 wide with 3 layers unless the configuration says otherwise."""
    return LSTM(
        num_features, config.hidden_dim or HIDDEN_DIM, config.num_layers or NUM_LAYERS, config.dropout
    )
