"""DLinear: the context as trend and remainder, and a linear layer over time for each (Zeng et al. 2023,
"Are Transformers Effective for Time Series Forecasting?").

Axes: B samples, T context_length, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpc.base.errors import UserError, raise_all
from stockpred.config.forecast import RegressorConfig

SIGNATURE = "inputs_BTF -> forecast_B"
KERNEL = 25


class DLinear(nn.Module):
    """A weight for every bar and feature of the trend and of the remainder; all begin at zero.

    The features' forecasts are added up: a layer that combined them with weights of its own could say
    nothing that theirs cannot.
    """

    def __init__(self, context_length: int, num_features: int) -> None:
        super().__init__()
        self.trend = nn.Linear(context_length * num_features, 1)
        self.remainder = nn.Linear(context_length * num_features, 1, bias=False)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs_BTF: Tensor) -> Tensor:
        """Return forecast_B in model units."""
        trend_BTF = moving_average(inputs_BTF)
        remainder_BTF = inputs_BTF - trend_BTF
        forecast_B: Tensor = self.trend(trend_BTF.flatten(1)) + self.remainder(remainder_BTF.flatten(1))
        return forecast_B.squeeze(-1)


def moving_average(inputs_BTF: Tensor, kernel: int = KERNEL) -> Tensor:
    """Return the centred mean over ``kernel`` (odd) bars; beyond the ends the first and last bar repeat."""
    half = kernel // 2
    first, last = inputs_BTF[:, :1], inputs_BTF[:, -1:]
    padded = torch.cat([first.expand(-1, half, -1), inputs_BTF, last.expand(-1, half, -1)], dim=1)
    return functional.avg_pool1d(padded.transpose(1, 2), kernel, stride=1).transpose(1, 2)


def build(config: RegressorConfig, *, num_features: int) -> DLinear:
    """Return a DLinear; raise UserError where a hidden layer is asked for. Dropout does not act in it."""
    raise_all(
        [
            UserError(
                f"dlinear has no {name}, but {getattr(config, name)} is set",
                where=f"model.{name}",
                fix=f"leave it out, or set model.{name}=null",
            )
            for name in ("hidden_dim", "num_layers")
            if getattr(config, name) is not None
        ]
    )
    return DLinear(config.context_length, num_features)
