"""Adding a model, a learner and a task by files alone: one file, one file, one folder with its schema.

``one_file_more`` holds such files. They are not named anywhere else: processes that have the folder on their
path check, train and report them like the toolkit's own.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hpc.attempt.submit import write_run
from hpc.base import records
from hpc.base.errors import ExitCode, UserError, UserErrors
from hpc.plan.from_args import PlanRequest, plan_from
from hpc.plan.plan import build
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from tests import forked

PROJECT = Path(__file__).resolve().parents[2]
FILES = Path(__file__).resolve().parent / "one_file_more"
RANK = """
import sys
from pathlib import Path
from stockpred.run import run_job
sys.exit(run_job(Path(sys.argv[1])))
"""
FEW_STEPS = (
    "data.symbol=AAPL",
    "data.synthetic.num_bars=300",
    "training.max_steps=6",
    "model.context_length=10",
)
CASE_OF_DIRECTION = """
extends: direction
data: {universe: cases/per_stock/universe.csv}
model: {context_length: 10}
training: {epochs: 1, lr: 1e-2, patience: 3}
presets: {demo: {}}
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a workspace whose processes find the files of ``one_file_more``, with a case of the new task."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FILES), str(PROJECT)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HPC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PROJECT / "cases", tmp_path / "cases")
    (tmp_path / "slurm").symlink_to(PROJECT / "slurm")
    shutil.copy(FILES / "direction.yaml", tmp_path / "cases" / "_base" / "direction.yaml")
    shutil.copytree(PROJECT / "cases" / "per_stock", tmp_path / "cases" / "direction")
    (tmp_path / "cases" / "direction" / "config.yaml").write_text(CASE_OF_DIRECTION)
    return tmp_path


def trained(root: Path, case: str, *overrides: str) -> tuple[RunPaths, str]:
    """Check, write and train a run of a few steps; return its files and what it printed."""
    plan = build(root, case, preset="demo", overrides=(*FEW_STEPS, *overrides))
    write_run(plan)
    code, output = forked.run(RANK, str(plan.paths.root), cwd=root, env=os.environ)
    assert code == ExitCode.OK, output
    return plan.paths, output


def add_to_case(root: Path, section: str) -> int:
    """Put a section in the place of the case's model; return its line."""
    path = root / "cases" / "per_stock" / "config.yaml"
    lines = path.read_text().splitlines()
    place = lines.index("model:")
    path.write_text("\n".join([*lines[:place], section, *lines[place + 2 :]]) + "\n")
    return place + 1


def assert_trained_and_reported(paths: RunPaths, *, names: tuple[str, ...]) -> None:
    history = Ledger(paths.events).history()
    assert history.finished
    assert records.read_rows(paths.metrics)[-1]["step"] == 6
    report = paths.report.read_text()
    for name in names:
        assert name in report


def test_a_model_is_one_file(workspace: Path) -> None:
    paths, _ = trained(workspace, "per_stock", "model.name=newest_bar")

    assert_trained_and_reported(paths, names=("newest_bar", "Mean training return"))


def test_a_setting_of_a_models_own_is_one_file_more(workspace: Path) -> None:
    add_to_case(workspace, "model: {name: window_mean, context_length: 10, num_newest: 3}")

    paths, _ = trained(workspace, "per_stock")

    assert_trained_and_reported(paths, names=("window_mean", "num_newest"))


def test_a_wrong_setting_of_a_models_own_is_one_error_with_its_line(workspace: Path) -> None:
    line = add_to_case(
        workspace, "model: {name: window_mean, context_length: 10, num_newest: 3, num_newset: 4}"
    )

    with pytest.raises(UserError) as caught:
        plan_from(PlanRequest("per_stock", preset="demo", overrides=FEW_STEPS))

    assert not isinstance(caught.value, UserErrors)
    assert caught.value.where == f"cases/per_stock/config.yaml:{line}"
    assert "model.num_newset: unknown key" in caught.value.what
    assert caught.value.fix == "did you mean 'num_newest'?"


def test_a_learner_is_one_file(workspace: Path) -> None:
    paths, _ = trained(workspace, "per_stock", "learner.name=absolute_error")

    assert_trained_and_reported(paths, names=("absolute_error", "Mean training return"))
    assert records.read_rows(paths.metrics)[-1]["validation"].keys() == {"mae"}


def test_a_task_is_one_folder_and_its_schema(workspace: Path) -> None:
    paths, output = trained(workspace, "direction")

    share = records.read_json(paths.test_results)["share_right"]
    assert 0.0 < share < 1.0
    assert f"test: {100 * share:.1f} %" in output
    assert_trained_and_reported(paths, names=("direction", "logistic", f"{100 * share:.1f} %"))


def test_what_does_not_fit_is_refused_with_the_new_names(workspace: Path) -> None:
    overrides = (*FEW_STEPS, "learner.name=absolute_error")

    with pytest.raises(UserError) as caught:
        plan_from(PlanRequest("direction", preset="demo", overrides=overrides))

    assert "learner absolute_error cannot learn task direction" in str(caught.value)
    assert caught.value.fix == "use one of: logistic"
