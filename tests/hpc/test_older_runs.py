"""Runs that an older version made: every command says so in one line, and none continues them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.base import records
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths

REPOSITORY = Path(__file__).parents[2]
OLDER = "made by an older version"
CONFIG = """\
data:
  source: synthetic
  universe: cases/crypto/universe.csv
learner:
  name: next_bar
training:
  lr: 3e-4
"""
PLAN = {"case": "crypto", "preset": "demo", "run_id": "demo-0123abcd", "num_tasks": 1, "member": None}


@pytest.fixture
def older(workspace: Path) -> RunPaths:
    """Return a run as the first layout left it: a learner and no task, a plan without a version."""
    paths = RunPaths(workspace / "runs" / "crypto" / "demo-0123abcd")
    paths.logs.mkdir(parents=True)
    paths.config.write_text(CONFIG)
    records.write_json(paths.plan, PLAN)
    ledger = Ledger(paths.events)
    ledger.append("submitted", job_id="7", executor="local")
    ledger.append("attempt_started", attempt=1, job_id="7", nodes=[])
    ledger.append("checkpoint", attempt=1, step=5)
    ledger.append("attempt_ended", attempt=1, exit_code=143, cause="cancelled", decision="stop", why="")
    return paths


def run(paths: RunPaths, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    return subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=paths.root.parents[2],
        env={**kept, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("hpc", ("report", "crypto")),
        ("hpc", ("summary", "crypto")),
        ("stockpred", ("train", "runs/crypto/demo-0123abcd")),
    ],
)
def test_a_command_that_needs_the_run_refuses_it_in_one_line_and_changes_nothing(
    older: RunPaths, program: str, arguments: tuple[str, ...]
) -> None:
    before = {path: path.read_bytes() for path in older.root.rglob("*.json*")}

    done = run(older, program, *arguments)

    said = [line for line in (done.stdout + done.stderr).splitlines() if OLDER in line]
    assert done.returncode != 0
    assert len(said) == 1
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in before if path != older.events} == {
        path: content for path, content in before.items() if path != older.events
    }


def test_status_says_it_in_the_line_of_the_run(older: RunPaths) -> None:
    done = run(older, "hpc", "status")

    (line,) = done.stdout.splitlines()
    assert done.returncode == 0
    assert line.startswith("crypto/demo-0123abcd\t")
    assert OLDER in line
    assert "submit its case again" in line


def test_a_submit_begins_a_run_of_its_own(older: RunPaths) -> None:
    done = run(older, "hpc", "submit", "crypto", "--preset", "demo", "--dry-run")

    assert done.returncode == 0, done.stderr
    assert "demo-0123abcd" not in done.stdout


def test_a_run_whose_id_is_taken_by_an_older_one_is_not_continued(
    older: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc.attempt.submit import submit
    from hpc.base.errors import UserError
    from hpc.plan.plan import build

    root = older.root.parents[2]
    monkeypatch.chdir(root)
    plan = build(root, "crypto", preset="demo")
    older.root.rename(plan.paths.root)

    with pytest.raises(UserError, match=OLDER):
        submit(plan, locally=True)
