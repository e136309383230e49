"""The squared error and its weights, forecasts as prices, and one process beside two."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from hpc.attempt.submit import write_run
from hpc.base.errors import UserError
from hpc.plan.plan import build
from hpc.run.paths import RunPaths
from stockpred.config import schema
from stockpred.config.forecast import ForecastExperiment
from stockpred.data.splits import Split
from stockpred.learners.supervised import Supervised
from stockpred.score import looks, results
from stockpred.tasks.forecast import task
from stockpred.tasks.forecast.task import ForecastTask
from stockpred.train import checkpoint
from stockpred.train.learner import Batch, Networks
from tests.forked import LIMIT_S, Rank

PROJECT = Path(__file__).resolve().parents[4]
CPU = torch.device("cpu")
JUDGED = (Split.VALIDATION, Split.TEST)
T, F = 6, 2


def learner_of(dropout: float = 0.5) -> Supervised:
    torch.manual_seed(0)
    return Supervised(
        nn.Sequential(nn.Flatten(), nn.Linear(T * F, 9), nn.Dropout(dropout), nn.Linear(9, 1), nn.Flatten(0))
    )


def batch_of(size: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(2)
    return {
        "inputs": torch.randn(size, T, F, generator=generator),
        "target": torch.randn(size, generator=generator),
        "persistence": torch.randn(size, generator=generator),
        "loss_weight": torch.tensor(float(size)),
    }


def part_of(batch: Batch, chosen: slice) -> Batch:
    return {name: value[chosen] for name, value in batch.items() if name != "loss_weight"}


def as_given(learner: Supervised) -> Networks:
    return Networks(learner.networks, learner.networks)


def loss_of(learner: Supervised, batch: Batch) -> Tensor:
    ((name, loss),) = learner.updates(batch, as_given(learner), 0)
    assert name == "model"
    return loss.detach()


def test_the_loss_is_the_mean_squared_error_and_the_mean_over_parts_is_the_same() -> None:
    learner, batch = learner_of(dropout=0.0), batch_of()
    forecast = learner.networks["model"](batch["inputs"]).detach().numpy()
    expected = np.mean((forecast - batch["target"].numpy()) ** 2)
    assert float(loss_of(learner, batch)) == pytest.approx(expected, rel=1e-6)
    parts = [
        loss_of(learner, part_of(batch, chosen) | {"loss_weight": torch.tensor(3.0)})
        for chosen in (slice(3), slice(3, 6))
    ]
    assert float(torch.stack(parts).mean()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("last", [nn.Identity(), nn.Flatten(0, 0)])
def test_a_model_of_another_shape_is_refused_at_its_first_batch(last: nn.Module) -> None:
    learner, batch = Supervised(nn.Sequential(nn.Flatten(), nn.Linear(T * F, 1), last)), batch_of()
    with pytest.raises(UserError, match=r"the model returns \(6, 1\) for inputs \(6, 6, 2\)"):
        next(learner.updates(batch, as_given(learner), 0))


def test_validation_adds_up_to_error_and_skill_over_any_batches() -> None:
    learner, batch = learner_of(dropout=0.0), batch_of(7)
    forecast, target, persistence = (
        values.detach().numpy()
        for values in (learner.networks["model"](batch["inputs"]), batch["target"], batch["persistence"])
    )
    of_persistence = ((persistence - target) ** 2).mean()
    expected = {
        "mse": ((forecast - target) ** 2).mean(),
        "skill": 1 - ((forecast - target) ** 2).mean() / of_persistence,
    }
    with torch.no_grad():
        parts = [
            learner.evaluate(part_of(batch, chosen), as_given(learner)).sums
            for chosen in (slice(4), slice(4, 7))
        ]
    for name, value in expected.items():
        total, weight = (sum(float(part[name][index]) for part in parts) for index in (0, 1))
        assert total / weight == pytest.approx(value, rel=1e-5)


def test_a_forecast_has_no_dropout_and_leaves_the_model_in_training() -> None:
    learner, batch = learner_of(dropout=0.5), batch_of()
    first, second = learner.forecast(batch), learner.forecast(batch)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert learner.networks["model"].training


def new_run(root: Path, *settings: str) -> RunPaths:
    """Write a run of one asset on synthetic bars."""
    root.mkdir()
    for folder in ("cases", "slurm"):
        (root / folder).symlink_to(PROJECT / folder)
    plan = build(root, "per_stock", preset="demo", overrides=["data.symbol=AAPL", *settings])
    write_run(plan)
    return plan.paths


def experiment_of(paths: RunPaths) -> ForecastExperiment:
    experiment = schema.load(paths.config)
    assert isinstance(experiment, ForecastExperiment)
    return experiment


@pytest.fixture
def in_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(PROJECT)
    return tmp_path / "workspace"


def new_task(root: Path, *settings: str) -> ForecastTask:
    paths = new_run(root, *settings)
    experiment = experiment_of(paths)
    task.prepare(experiment, paths)
    return task.task(experiment, paths)


@pytest.mark.parametrize(
    ("inputs", "symbol", "name", "num_parameters"),
    [
        ("changes", "AAPL", "mlp", (20 * 5 * 64 + 64) + (64 * 64 + 64) + 65),
        ("levels", "^GSPC", "mlp", (20 * 64 + 64) + (64 * 64 + 64) + 65),
        ("changes", "^GSPC", "dlinear", 2 * 20 + 1),
    ],
)
def test_a_task_begins_as_a_constant_forecast_of_every_test_day(
    in_workspace: Path, inputs: str, symbol: str, name: str, num_parameters: int
) -> None:
    own = new_task(in_workspace, f"data.symbol={symbol}", f"series.inputs={inputs}", f"model.name={name}")
    assert own.num_parameters == task.count_parameters(own.experiment) == num_parameters
    found, series = own.forecasts(Split.TEST, CPU), own.series
    is_test, samples = series.split == Split.TEST, own.stream.samples[Split.TEST]
    np.testing.assert_array_equal(samples + 1, np.flatnonzero(is_test))
    previous = series.close[np.flatnonzero(is_test) - 1]
    expected = previous if inputs == "changes" else np.full(is_test.sum(), series.target_mean)
    np.testing.assert_allclose(series.prices(samples, found), expected, rtol=1e-12)
    size = {10689: "11k", 5569: "5.6k", 41: "41"}[num_parameters]
    assert own.describe().startswith(f"{name} with {size} parameters for {symbol}; ")


def test_weights_depend_on_the_seed_alone(in_workspace: Path) -> None:
    experiment = experiment_of(new_run(in_workspace))
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(99 + len(weights))
        training = experiment.training.model_copy(update={"seed": seed})
        learner = task.build(experiment.model_copy(update={"training": training}), 5)
        weights.append(nn.utils.parameters_to_vector(learner.networks["model"].parameters()))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_scoring_writes_results_and_forecasts_of_each_split_and_tells_each_row(in_workspace: Path) -> None:
    task = new_task(in_workspace)
    with torch.no_grad():
        nn.init.constant_(task.learner.networks["model"].get_parameter("head.bias"), 0.05)
    lines = {split: list(task.score(split, 7, CPU, lambda: None)) for split in JUDGED}
    table = pd.read_parquet(task.paths.predictions)
    for split, path in ((JUDGED[0], task.paths.validation_results), (JUDGED[1], task.paths.test_results)):
        told, own = results.read(path).pooled, table[table["split"] == split.text]
        assert len(own) == told.num_bars == len(task.stream.samples[split])
        np.testing.assert_allclose(own["expected_return"], 0.05 * task.series.target_scale, rtol=1e-6)
        squared = np.square(own["expected_return"] - own["realised_return"])
        skill = 1 - squared.sum() / np.square(own["realised_return"]).sum()
        assert told.model.skill == pytest.approx(skill)
        assert any(
            line.startswith(f"{split.text} mlp ") and f"{100 * skill:.2f} %" in line for line in lines[split]
        )
        assert any("Last value" in line for line in lines[split])
    training = task.stream.samples[Split.TRAIN]
    drift = (task.series.close[training + 1] / task.series.close[training] - 1).mean()
    fitted = results.read(task.paths.test_results).fitted["drift"]
    assert fitted["mean_of_all"] == pytest.approx(drift, rel=0.05)


def test_a_run_that_is_scored_again_has_each_row_once_and_is_one_look(in_workspace: Path) -> None:
    task = new_task(in_workspace)
    for split in (*JUDGED, *JUDGED):
        list(task.score(split, 7, CPU, lambda: None))
    table = pd.read_parquet(task.paths.predictions)
    assert not table.duplicated(["symbol", "time"]).any()
    assert len(table) == sum(len(task.stream.samples[split]) for split in JUDGED)
    assert results.read(task.paths.test_results).num_looks == 1


def test_the_lease_is_checked_before_each_file_and_a_look_is_counted_before_its_results(
    in_workspace: Path,
) -> None:
    task = new_task(in_workspace)
    ledger = looks.ledger_of(task.paths)
    ledger.unlink(missing_ok=True)
    seen: list[tuple[bool, bool, bool]] = []

    def check() -> None:
        seen.append((ledger.exists(), task.paths.predictions.exists(), task.paths.test_results.exists()))

    list(task.score(Split.TEST, 7, CPU, check))
    assert seen == [(False, False, False), (True, False, False), (True, True, False)]


RANK = """
import os, sys
from pathlib import Path
from hpc.run.attempt import Attempt
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from stockpred.config import schema
from stockpred.tasks.forecast import task as forecast
from stockpred.train import core, distributed

env, paths = JobEnv.read(), RunPaths(Path(sys.argv[1]))
experiment = schema.load(paths.config)
if env.is_main:
    forecast.prepare(experiment, paths)
with distributed.joined(env, paths, experiment.training) as group:
    task = forecast.task(experiment, paths)
    core.train(
        learner=task.learner, stream=task.stream, settings=experiment.training, group=group,
        attempt=Attempt.join(paths, env),
    )
os._exit(0)
"""


def train(paths: RunPaths, world_size: int) -> dict[str, Tensor]:
    """Train on so many ranks; return the last weights."""
    base = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    base |= {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(world_size)}
    script = paths.root / "rank.py"
    script.write_text(RANK)
    ranks = [
        Rank(
            [str(script), str(paths.root)],
            cwd=PROJECT,
            env=base | {"RANK": str(rank), "LOCAL_WORLD_SIZE": str(world_size)},
        )
        for rank in range(world_size)
    ]
    try:
        outputs = [rank.communicate(LIMIT_S)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * world_size, outputs
    newest = checkpoint.find_newest(paths.checkpoints)
    assert newest.directory is not None
    weights: dict[str, Tensor] = checkpoint.load(newest.directory, "networks", CPU)["model"]
    return weights | {"step": torch.tensor(newest.step)}


def test_two_processes_give_the_weights_of_one_with_the_same_global_batch(tmp_path: Path) -> None:
    """Train without dropout: its randomness is keyed by rank, so two ranks draw other masks than one."""
    settings = ("model.dropout=0", "training.evaluations_per_epoch=2", "training.patience=1000")
    one = train(new_run(tmp_path / "one", *settings, "training.batch_size=64"), 1)
    two = train(new_run(tmp_path / "two", *settings, "training.batch_size=32"), 2)
    assert one["step"] == two["step"] > 40
    assert one["head.weight"].abs().max() > 0.01
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-6, rtol=0)
