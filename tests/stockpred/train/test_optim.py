"""Schedule and optimizer against closed forms and torch itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy_core import SETTINGS

from hpc.base.errors import UserError
from stockpred.config.base import TrainingConfig
from stockpred.train.optim import NetworkOptimizer, autocast, choose_precision, learning_rate

CPU = torch.device("cpu")


def settings(**changes: object) -> TrainingConfig:
    return TrainingConfig.model_validate(SETTINGS | changes)


def test_the_rate_rises_linearly_then_follows_a_cosine_to_its_minimum() -> None:
    asked = settings(lr=1.0, warmup_fraction=0.1, min_lr_fraction=0.2)
    rates = [learning_rate(step, 100, asked) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[54] == pytest.approx(0.6)  # half-way down: the mean of 1.0 and 0.2
    assert rates[-1] == pytest.approx(0.2)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_without_warm_up_even_a_single_step_has_a_rate() -> None:
    assert learning_rate(1, 1, settings(lr=1.0, warmup_fraction=0.0, min_lr_fraction=0.5)) == pytest.approx(
        0.5
    )


def test_weight_decay_shrinks_matrices_and_spares_biases() -> None:
    network = nn.Linear(3, 2)
    nn.init.ones_(network.weight)
    nn.init.ones_(network.bias)
    optimizer = NetworkOptimizer(network, settings(weight_decay=0.5), "fp32", CPU)
    optimizer.backward(0.0 * network(torch.zeros(1, 3)).sum())
    optimizer.apply(lr=0.1)
    assert torch.allclose(network.weight, torch.full((2, 3), 1.0 - 0.1 * 0.5))
    assert torch.equal(network.bias, torch.ones(2))


def test_a_gradient_that_overflows_half_precision_is_skipped_and_the_scale_halved() -> None:
    network = nn.Linear(1, 1)
    optimizer = NetworkOptimizer(network, settings(), "fp16", CPU)
    before, scale = network.weight.detach().clone(), optimizer.scaler.get_scale()
    optimizer.backward(network(torch.full((1, 1), torch.inf)).sum())
    optimizer.apply(lr=0.1)
    assert torch.equal(network.weight, before)
    assert optimizer.scaler.get_scale() == scale / 2


@pytest.mark.parametrize(("computes_in_bf16", "chosen"), [(True, "bf16"), (False, "fp16")])
def test_automatic_precision_is_full_on_the_cpu_and_the_half_that_a_gpu_computes_in(
    monkeypatch: pytest.MonkeyPatch, computes_in_bf16: bool, chosen: str
) -> None:
    def is_supported(including_emulation: bool = True) -> bool:
        return including_emulation or computes_in_bf16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert choose_precision("auto", torch.device("cuda")) == chosen
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("fp16", CPU) == "fp16"


def test_mps_trains_in_full_precision_and_never_makes_a_number_it_does_not_have() -> None:
    mps = torch.device("mps")
    assert choose_precision("auto", mps) == "fp32"
    with pytest.raises(UserError, match="fp16"):
        choose_precision("fp16", mps)
    assert not autocast("fp32", mps)._enabled
    optimizer = NetworkOptimizer(nn.Linear(3, 2), settings(), "fp32", mps)
    assert not optimizer.is_overflow_skipped()
