"""Every regressor: its size, where it begins, and what it can say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from hpc.base.errors import UserErrors
from stockpred.config import combination, registry
from stockpred.config.forecast import RegressorConfig
from stockpred.models import dlinear, lstm, mlp
from stockpred.train.learner import num_parameters

MODELS = combination.models_for("supervised")
F = 5


def config(name: str, context_length: int = 20, **sizes: float) -> RegressorConfig:
    tree = {"hidden_dim": None, "num_layers": None, "dropout": 0.1, **sizes}
    return RegressorConfig.model_validate({"name": name, "context_length": context_length, **tree})


@pytest.mark.parametrize("context_length", [1, 20, 61])
@pytest.mark.parametrize("name", MODELS)
def test_the_first_forecast_is_exactly_zero_and_every_parameter_is_reached(
    name: str, context_length: int
) -> None:
    architecture = registry.load(registry.MODELS, name)
    model = architecture.build(config(name, context_length), num_features=F)
    forecast_B = model(torch.randn(7, context_length, F))
    assert forecast_B.shape == (7,)
    assert torch.equal(forecast_B, torch.zeros(7))
    forecast_B.sub(1.0).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert any(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_forecast_depends_on_its_own_sample_only(name: str) -> None:
    torch.manual_seed(0)
    model = registry.load(registry.MODELS, name).build(config(name), num_features=F)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter))
    model.eval()
    inputs = torch.randn(6, 20, F)
    alone = torch.cat([model(inputs[row : row + 1]) for row in range(6)])
    torch.testing.assert_close(model(inputs), alone)
    assert alone.unique().numel() == 6


@pytest.mark.parametrize(("hidden_dim", "num_layers"), [(None, None), (48, 3), (7, 1)])
def test_the_size_of_an_mlp(hidden_dim: int | None, num_layers: int | None) -> None:
    model = mlp.build(config("mlp", hidden_dim=hidden_dim, num_layers=num_layers), num_features=F)
    width, depth = hidden_dim or 64, num_layers or 2
    first, further, last = 20 * F * width + width, width * width + width, width + 1
    assert num_parameters(model) == first + (depth - 1) * further + last


@pytest.mark.parametrize(("hidden_dim", "num_layers"), [(None, None), (48, 2), (7, 1)])
def test_the_size_of_an_lstm(hidden_dim: int | None, num_layers: int | None) -> None:
    model = lstm.build(config("lstm", hidden_dim=hidden_dim, num_layers=num_layers), num_features=F)
    width, depth = hidden_dim or 256, num_layers or 3
    inputs = [F] + [width] * (depth - 1)
    gates = sum(4 * (width * before + width * width + 2 * width) for before in inputs)
    assert num_parameters(model) == gates + width + 1


def test_an_lstm_reads_its_bars_in_order() -> None:
    torch.manual_seed(0)
    model = lstm.build(config("lstm", hidden_dim=8, num_layers=2), num_features=F).eval()
    torch.nn.init.ones_(model.head.weight)
    inputs = torch.randn(3, 20, F)
    states, _ = model.body(inputs)
    torch.testing.assert_close(model(inputs), states[:, 19].sum(-1))
    assert not torch.allclose(model(inputs), model(inputs.flip(1)))


@pytest.mark.parametrize("context_length", [1, 12, 25, 60])
def test_the_trend_is_pandas_rolling_mean_over_repeated_ends(context_length: int) -> None:
    inputs = np.random.default_rng(0).standard_normal((3, context_length, 2))
    trend = dlinear.moving_average(torch.from_numpy(inputs)).numpy()
    for sample in range(3):
        for feature in range(2):
            padded = pd.Series(np.pad(inputs[sample, :, feature], 12, mode="edge"))
            expected = padded.rolling(25, center=True).mean().dropna()
            np.testing.assert_allclose(trend[sample, :, feature], expected, atol=1e-12)


def test_dlinear_finds_the_linear_map_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((400, 30, 2))
    target = inputs.reshape(400, -1) @ rng.standard_normal(60) + 0.7 + 0.5 * rng.standard_normal(400)
    design = np.column_stack([inputs.reshape(400, -1), np.ones(400)])
    expected = design @ np.linalg.lstsq(design, target, rcond=None)[0]

    model = dlinear.build(config("dlinear", 30), num_features=2).double()
    fitter = torch.optim.LBFGS(model.parameters(), max_iter=2000, line_search_fn="strong_wolfe")
    x, y = torch.from_numpy(inputs), torch.from_numpy(target)

    def loss() -> torch.Tensor:
        fitter.zero_grad()
        mse = (model(x) - y).square().mean()
        mse.backward()
        return mse

    for _ in range(20):
        fitter.step(loss)
    np.testing.assert_allclose(model(x).detach().numpy(), expected, atol=1e-3)
    assert num_parameters(model) == 2 * 30 * 2 + 1


def test_dlinear_refuses_sizes_that_it_does_not_have() -> None:
    with pytest.raises(UserErrors) as caught:
        dlinear.build(config("dlinear", hidden_dim=64, num_layers=2), num_features=F)
    assert [problem.where for problem in caught.value.problems] == ["model.hidden_dim", "model.num_layers"]
    assert "model.hidden_dim=null" in str(caught.value)
