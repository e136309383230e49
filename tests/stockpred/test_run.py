"""A rank of the real job on a tiny run: what goes wrong is one message, and says whether to try again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.attempt.submit import write_run
from hpc.base.errors import ExitCode
from hpc.plan.plan import build
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from tests import forked

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = (
    "data.synthetic.num_bars=300",
    "model.d_model=16",
    "model.num_layers=1",
    "training.max_steps=4",
)
RANK = """
import sys
from pathlib import Path
import stockpred.learners
stockpred.learners.__path__.append(sys.argv[2])
from stockpred.run import run_job
sys.exit(run_job(Path(sys.argv[1])))
"""
LEARNER = """
import torch
from stockpred.learners import language_model

TASKS, MODEL = language_model.TASKS, language_model.MODEL

class Greedy(language_model.LanguageModel):
    def updates(self, batch, networks, step):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

def build(experiment, model):
    return Greedy(model)
"""


def new_run(root: Path) -> RunPaths:
    for folder in ("cases", "slurm"):
        (root / folder).symlink_to(PROJECT / folder)
    plan = build(root, "crypto", preset="demo", overrides=SETTINGS)
    write_run(plan)
    return plan.paths


def run_rank(paths: RunPaths, plugins: Path) -> tuple[int, str]:
    """Return a single rank's exit code and output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    environ |= {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    return forked.run(RANK, str(paths.root), str(plugins), cwd=paths.root.parents[2], env=environ)


def refuse_checkpoints(paths: RunPaths) -> Path:
    paths.checkpoints.write_text("not a directory")
    return paths.checkpoints


def refuse_metrics(paths: RunPaths) -> Path:
    paths.metrics.mkdir()
    return paths.metrics


def refuse_predictions(paths: RunPaths) -> Path:
    paths.predictions.mkdir()
    return paths.predictions


@pytest.mark.parametrize("refuse", [refuse_checkpoints, refuse_metrics, refuse_predictions])
def test_a_file_that_cannot_be_written_is_one_message_that_names_it(
    tmp_path: Path, refuse: Callable[[RunPaths], Path]
) -> None:
    paths = new_run(tmp_path)
    file = refuse(paths)
    code, output = run_rank(paths, tmp_path)
    assert code == ExitCode.FAILED, output
    assert "Traceback" not in output
    assert output.count("error:") == 1
    assert file.name in output.partition("error:")[2]
    assert "fix: " in output
    assert not any(row["kind"] == "mistake" for row in Ledger(paths.events).rows())


def test_what_only_the_person_can_mend_is_not_tried_again(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "greedy.py").write_text(LEARNER)
    paths = new_run(tmp_path)
    paths.config.write_text(paths.config.read_text().replace("name: language_model", "name: greedy"))
    code, output = run_rank(paths, plugins)
    assert code == ExitCode.USAGE, output
    assert "Traceback" not in output
    mistakes = [row["text"] for row in Ledger(paths.events).rows() if row["kind"] == "mistake"]
    assert len(mistakes) == 1
    assert "the GPU's memory is full: CUDA out of memory" in mistakes[0]
    assert "lower training.batch_size" in mistakes[0]
