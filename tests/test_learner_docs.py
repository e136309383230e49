"""What docs/learners.md shows: its code runs, and means what the text says of it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hpc.attempt.submit import write_run
from hpc.base import records
from hpc.plan.plan import build
from hpc.run.attempt import Attempt
from hpc.run.jobenv import JobEnv
from stockpred.config import combination, registry, schema
from stockpred.config.base import TrainingConfig
from stockpred.config.registry import LEARNERS, TASKS
from stockpred.run import conclude
from stockpred.train import core
from stockpred.train.distributed import Group
from stockpred.train.learner import Networks

PROJECT = Path(__file__).resolve().parents[1]
GUIDE = PROJECT / "docs" / "learners.md"
FEW_STEPS = (
    "data.symbol=AAPL",
    "data.synthetic.num_bars=300",
    "model.context_length=10",
    "training.max_steps=6",
    "training.device=cpu",
)


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """Return the names that the guide's snippets define, run one after the other."""
    names: dict[str, Any] = {"__name__": "shown"}
    for snippet in snippets():
        exec(compile(snippet, str(GUIDE), "exec"), names)
    return names


def snippets() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.S | re.M)


def networks_of(**modules: nn.Module) -> Networks:
    return Networks(modules, modules)


def test_the_smallest_learner_yields_the_mean_squared_error(shown: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    batch = {"inputs": torch.randn(8, 3), "target": torch.randn(8), "loss_weight": torch.tensor(8.0)}
    learner = shown["build"](None, model)
    ((name, loss),) = learner.updates(batch, networks_of(model=model), 0)
    assert name == "model"
    torch.testing.assert_close(loss, nn.functional.mse_loss(model(batch["inputs"]), batch["target"]))
    total, weight = learner.evaluate(batch, networks_of(model=model)).sums["mse"]
    torch.testing.assert_close(total / weight, loss)


@pytest.fixture
def least_squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the guide's first snippet a learner of the toolkit; return the root of a workspace."""
    folder = tmp_path / "learners"
    folder.mkdir()
    (folder / "least_squares.py").write_text(snippets()[0])
    package = importlib.import_module(LEARNERS)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    for name in ("cases", "slurm"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_smallest_learner_is_a_whole_file_that_trains_and_is_tested(least_squares: Path) -> None:
    settings = ("learner.name=least_squares", "training.selection.metric=mse", *FEW_STEPS)
    plan = build(least_squares, "per_stock", preset="demo", overrides=settings)
    write_run(plan)
    paths, env = plan.paths, JobEnv.read({})
    experiment = schema.load(paths.config)
    assert combination.problems("forecast", "least_squares", experiment.model.name) == []
    assert combination.unknown_names("least_squares", ["model"], "mse") == []
    module = registry.load_task("forecast")
    module.prepare(experiment, paths)
    task, group = module.task(experiment, paths), Group(env, torch.device("cpu"))
    attempt = Attempt.join(paths, env)
    outcome = core.train(
        learner=task.learner, stream=task.stream, settings=experiment.training, group=group, attempt=attempt
    )
    conclude(task, attempt, group.device, opens_test=True)
    assert outcome is core.Outcome.DONE
    assert records.read_rows(paths.metrics)[-1]["validation"].keys() == {"mse"}
    assert records.read_json(paths.test_results)["pooled"]["model"]["rmse_bp"] > 0.0
    assert paths.report.exists()


@pytest.mark.parametrize("task", registry.names(TASKS))
def test_the_guide_lists_what_each_task_asks_of_its_learner(task: str) -> None:
    asked = registry.signatures(TASKS, f"{task}/task", combination.TASK_LEARNER)
    for signature in asked.values():
        assert f"| `{task}` | `{signature}`" in GUIDE.read_text()


def test_the_penalty_of_a_linear_critic_is_that_of_its_slope(shown: dict[str, Any]) -> None:
    critic = nn.Linear(3, 1)
    real, made, mix = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5, 1)
    loss = shown["critic_loss"](networks_of(critic=critic), real, made, mix)
    slope = critic.weight.norm()
    expected = critic(made).mean() - critic(real).mean() + 10.0 * (slope - 1.0) ** 2
    torch.testing.assert_close(loss, expected)


def test_an_inner_step_is_a_step_of_gradient_descent(shown: dict[str, Any]) -> None:
    model = shown["Adaptable"](nn.Linear(1, 1, bias=False), inner_lr=0.1)
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
    weight = float(model.base.weight.detach())
    slope = float((2 * (weight * x - y) * x).mean())
    with torch.no_grad():
        answer = model(x, y, torch.tensor([[1.0]]))
    assert float(answer.detach()) == pytest.approx(weight - 0.1 * slope, rel=1e-5)


def test_the_policys_loss_is_minus_the_mean_advantage_at_ratio_one(shown: dict[str, Any]) -> None:
    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(4, 2)

        def forward(self, seen: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.out(seen), memory

    policy, seen = Policy(), torch.randn(6, 4)
    action, advantage = torch.randint(2, (6,)), torch.randn(6)
    log_prob = policy.out(seen).log_softmax(-1).gather(-1, action[:, None]).squeeze(-1).detach()
    batch = {"seen": seen, "memory": torch.zeros(1), "action": action, "log_prob": log_prob}
    loss = shown["policy_loss"](networks_of(policy=policy), batch | {"advantage": advantage})
    torch.testing.assert_close(loss, -advantage.mean())


def test_the_settings_that_the_guide_names_exist() -> None:
    named = set(re.findall(r"`training\.(\w+)`", GUIDE.read_text()))
    assert named
    assert named <= set(TrainingConfig.model_fields)
