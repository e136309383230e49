"""The contract of a learner, kept by a WGAN-GP, TimeGAN's phases, MAML and recurrent PPO on real ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_learners
import torch
from runs_of_ranks import Ranks, assert_close, assert_identical, checkpoint_of, ended, final_state
from toy_core import launch

from hpc.base import records
from hpc.run.paths import RunPaths

PROGRAM = str(Path(__file__).with_name("small_rank.py"))
SETTINGS: dict[str, dict[str, Any]] = {
    "wgan": {"batch_size": 8, "lr": 5e-3, "optimizers": {"generator": {"lr": 1e-3, "beta1": 0.0}}},
    "phases": {"batch_size": 4, "max_steps": 12},
    "maml": {"batch_size": 4, "max_steps": 8},
    "ppo": {"batch_size": 1, "accumulate": 6, "max_steps": 8, "lr": 3e-3, "weight_decay": 0.0},
}
SAVING = {"checkpoint_every_s": 0.0, "keep_checkpoints": 2}
Train = Callable[..., list[int]]


@pytest.fixture
def train() -> Iterator[Train]:
    """Train a small learner on some ranks to its end, or to what its signals make of it."""
    started: Ranks = []

    def train(
        run: Path, learner: str, num_ranks: int, *, attempt: int = 1, signals: object = None, **settings: Any
    ) -> list[int]:
        options = {"learner": learner, "signals": signals or {}}
        own = SETTINGS[learner] | settings
        ranks = launch(run, num_ranks, attempt, own, options, program=PROGRAM)
        started.extend(ranks)
        return ended(ranks)

    yield train
    for process in started:
        process.kill()
        process.communicate()


def gradients(run: Path) -> dict[str, torch.Tensor]:
    """Return what Adam's first moment tells of the last gradients of each network, where beta1 is 0."""
    optimizers = final_state(run)["optimizers"]
    return {
        f"{name}/{index}": moments["exp_avg"]
        for name, state in optimizers.items()
        for index, moments in state["optimizer"]["state"].items()
    }


@pytest.mark.parametrize(
    ("learner", "step"),
    [("wgan", 1), ("wgan", 102), ("phases", 2), ("phases", 6), ("phases", 9), ("maml", 1)],
)
def test_two_ranks_have_the_gradients_of_one_with_the_joint_batch(
    tmp_path: Path, train: Train, learner: str, step: int
) -> None:
    settings = {"max_steps": step, "lr": 1e-9, "beta1": 0.0, "optimizers": {}, "gradient_clip": 1e9}
    size = SETTINGS[learner]["batch_size"]
    assert train(tmp_path / "joint", learner, 1, **settings | {"batch_size": 2 * size}) == [0]
    assert train(tmp_path / "ranks", learner, 2, **settings) == [0, 0]
    joint, ranks = gradients(tmp_path / "joint"), gradients(tmp_path / "ranks")
    assert joint.keys() == ranks.keys()
    for name, gradient in joint.items():
        torch.testing.assert_close(ranks[name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("learner", "num_ranks", "killed_at"), [("wgan", 2, 103), ("phases", 3, 6), ("maml", 2, 5), ("ppo", 2, 5)]
)
def test_killed_in_a_step_a_run_ends_with_the_very_same_bits(
    tmp_path: Path, train: Train, learner: str, num_ranks: int, killed_at: int
) -> None:
    """Three ranks show that the order of sums is settled for networks that come later, too."""
    settings: dict[str, Any] = SAVING | {"accumulate": 3} if learner == "ppo" else dict(SAVING)
    settings |= {"max_steps": 106} if learner == "wgan" else {}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, learner, num_ranks, **settings) == [0] * num_ranks
    signals = {"1": {str(killed_at): "SIGKILL"}}
    assert train(parts, learner, num_ranks, signals=signals, **settings) == [-9] * num_ranks
    assert train(parts, learner, num_ranks, attempt=2, **settings) == [0] * num_ranks
    resumed = [row for row in records.read_rows(RunPaths(parts).events) if row["kind"] == "resumed"]
    assert [row["step"] for row in resumed] == [killed_at]
    assert_identical(whole, parts)


def test_environments_live_on_whatever_the_number_of_ranks(tmp_path: Path, train: Train) -> None:
    """Six parts on 1, then 2, then 3 ranks end like six parts on 1."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, "ppo", 1, accumulate=6) == [0]
    assert train(parts, "ppo", 1, accumulate=6, signals={"1": {"2": "SIGTERM"}}) == [85]
    assert train(parts, "ppo", 2, accumulate=3, attempt=2, signals={"2": {"4": "SIGTERM"}}) == [85, 85]
    assert train(parts, "ppo", 3, accumulate=2, attempt=3) == [0, 0, 0]
    assert_close(whole, parts)
    ours, theirs = final_state(whole)["parts"], final_state(parts)["parts"]
    assert set(ours) == set(theirs) == set(range(6))
    for part, state in ours.items():
        assert state["length"] == theirs[part]["length"]
        assert state["episode"] == theirs[part]["episode"]
        torch.testing.assert_close(state["seen"], theirs[part]["seen"], atol=1e-5, rtol=1e-5)


def test_the_critic_learns_the_known_distance_of_two_gaussians(tmp_path: Path, train: Train) -> None:
    """Of normal distributions that are only shifted, Wasserstein-1 is the length W of the shift: here 2.

    The best critic is linear; with the penalty's weight L its slope s maximises s W - L (s - 1)^2.
    """
    settings = {"max_steps": 100, "batch_size": 64, "lr": 1e-2, "optimizers": {}, "epochs": 20}
    assert train(tmp_path, "wgan", 1, **settings) == [0]
    last = records.read_rows(RunPaths(tmp_path).metrics)[-1]["validation"]
    validation = next(small_learners.GaussianStream().evaluation(0, 1, 96))
    shift = np.subtract(*(validation[name].numpy().mean(0) for name in ("real", "noise")))
    assert last["distance"] == pytest.approx(np.linalg.norm(shift), rel=1e-5)
    slope = 1.0 + last["distance"] / (2.0 * small_learners.WassersteinGan.penalty_weight)
    assert last["estimate"] == pytest.approx(slope * last["distance"], rel=0.06)
    assert last["distance"] == pytest.approx(np.linalg.norm(small_learners.SHIFT), abs=0.3)


def test_a_metric_of_the_whole_set_is_the_same_for_every_number_of_ranks(
    tmp_path: Path, train: Train
) -> None:
    found = []
    for num_ranks in (1, 2, 3):
        run = tmp_path / str(num_ranks)
        assert train(run, "wgan", num_ranks, max_steps=1, lr=1e-9) == [0] * num_ranks
        found.append(records.read_rows(RunPaths(run).metrics)[-1]["validation"]["distance"])
    assert found[0] == found[1] == found[2]


def test_the_meta_gradient_is_that_of_finite_differences() -> None:
    """Second order, two inner steps, in double precision."""
    torch.manual_seed(1)
    model = small_learners.Adaptable(num_inner_steps=2).double()
    stream = small_learners.SinusoidStream()
    batch = {name: value.double() for name, value in stream.batch(0, 0, 1, 3).items()}

    def loss() -> torch.Tensor:
        return small_learners.Maml._errors(model, batch).mean()

    slopes = torch.autograd.grad(loss(), list(model.parameters()))
    for parameter, slope in zip(model.parameters(), slopes, strict=True):
        flat = parameter.data.view(-1)
        for index in range(0, len(flat), 5):
            values = []
            for step in (1e-5, -1e-5):
                flat[index] += step
                values.append(float(loss().detach()))
                flat[index] -= step
            difference = (values[0] - values[1]) / 2e-5
            assert float(slope.view(-1)[index]) == pytest.approx(difference, rel=1e-6, abs=1e-8)


def test_the_ratio_of_a_rollouts_first_epoch_is_one(tmp_path: Path) -> None:
    """What was played is evaluated again with the memory that it was played with."""
    learner = small_learners.RecurrentPpo()
    networks = small_learners.Networks(learner.networks, learner.networks)
    with torch.no_grad():
        for step in range(3):
            torch.manual_seed(step)
            batch = learner.make_batch(step, 0, networks)
    logits, values, _ = learner.networks["policy"](batch["seen"], batch["begins"], batch["memory"])
    chosen = logits.log_softmax(-1).gather(-1, batch["action"][:, None]).squeeze(-1)
    np.testing.assert_allclose(chosen.detach(), batch["log_prob"], atol=1e-6)
    np.testing.assert_allclose(values.detach(), batch["value"], atol=1e-5)


def test_recurrent_ppo_learns_to_balance(tmp_path: Path, train: Train) -> None:
    """Pushed at random, the pole falls after some 22 steps."""
    assert train(tmp_path, "ppo", 1, max_steps=36, epochs=100, evaluations_per_epoch=6.0) == [0]
    rows = records.read_rows(RunPaths(tmp_path).metrics)
    lengths = [row["validation"]["episode_length"] for row in rows if "validation" in row]
    assert lengths[-1] > 2 * 22
    assert checkpoint_of(tmp_path).name == "step_36"
