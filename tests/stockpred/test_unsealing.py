"""A sealed test stays closed until a person opens it, and every look is counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from hpc.attempt.submit import write_run
from hpc.base.errors import ExitCode
from hpc.plan.plan import build
from hpc.run.paths import RunPaths
from stockpred.config import schema
from stockpred.run import opens_test
from stockpred.score import looks, results
from tests import forked
from tests.stockpred.test_run import PROJECT, RANK

SETTINGS = (
    "data.symbol=AAPL",
    "data.synthetic.num_bars=300",
    "training.epochs=1",
    "training.max_steps=4",
)


def new_run(root: Path, *overrides: str) -> RunPaths:
    for folder in ("cases", "slurm"):
        if not (root / folder).exists():
            (root / folder).symlink_to(PROJECT / folder)
    plan = build(root, "per_stock", preset="demo", overrides=(*SETTINGS, *overrides))
    write_run(plan)
    return plan.paths


def train(paths: RunPaths) -> str:
    environ = {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    code, output = forked.run(RANK, str(paths.root), str(paths.root), cwd=paths.root.parents[2], env=environ)
    assert code == ExitCode.OK, output
    return output


def command(paths: RunPaths) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "stockpred", "open-test", str(paths.root)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("overrides", "opens"),
    [
        (("task.test=once",), True),
        (("task.test=sealed",), False),
        (("task.test=null",), False),  # the case is an array
        (("task.test=null", "array.key=null"), True),
    ],
)
def test_a_run_of_an_array_keeps_its_test_sealed_unless_it_is_told_otherwise(
    tmp_path: Path, overrides: tuple[str, ...], opens: bool
) -> None:
    paths = new_run(tmp_path, *overrides)
    assert opens_test(paths, schema.load(paths.config)) == opens


def test_a_sealed_run_scores_validation_alone_until_its_test_is_opened_once(tmp_path: Path) -> None:
    paths = new_run(tmp_path, "task.test=sealed")
    ledger = looks.ledger_of(paths)
    early = command(paths)
    assert (early.returncode, "has not finished" in early.stderr) == (ExitCode.USAGE, True)

    output = train(paths)
    assert f"to open it: stockpred open-test {paths.root}" in output
    assert results.read(paths.validation_results).split == "validation"
    assert not paths.test_results.exists()
    assert not ledger.exists()
    assert set(pd.read_parquet(paths.predictions)["split"]) == {"validation"}
    assert "The test is sealed" in paths.report.read_text()

    opened = command(paths)
    assert opened.returncode == ExitCode.OK, opened.stderr
    assert opened.stdout.splitlines()[0].startswith("test mlp ")
    assert results.read(paths.test_results).num_looks == len(looks.read(ledger)) == 1
    assert set(pd.read_parquet(paths.predictions)["split"]) == {"validation", "test"}
    assert "The test is sealed" not in paths.report.read_text()

    again = command(paths)
    assert (again.returncode, "is open already" in again.stderr) == (ExitCode.USAGE, True)
    assert len(looks.read(ledger)) == 1
