"""The main job on this machine: launch, two ranks, an interruption, resume, report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from tests.holds import control
from tests.processes import kill_all_in
from tests.slurm.clusters import COMMAND_TIMEOUT_S, NO_SLURM
from tests.slurm.workspaces import WAIT_S, copy_cases, fingerprint

BRIEF = ("training.epochs=2", "resources.gpus=1")
STEP = 5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    copy_cases(tmp_path)
    return tmp_path


def hpc(root: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command as on a machine without a Slurm."""
    done = subprocess.run(
        [sys.executable, "-m", "hpc", *words],
        cwd=root,
        env={**os.environ, **NO_SLURM, "PYTHONPATH": control.PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def run_of(root: Path, done: subprocess.CompletedProcess[str]) -> RunPaths:
    return RunPaths(root / "runs" / done.stdout.split()[0])


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_demo_is_interrupted_once_and_ends_like_a_run_that_was_not(root: Path) -> None:
    shown = hpc(root, "demo", "--local")
    paths = run_of(root, shown)
    whole = hpc(root, "submit", "crypto", "--preset", "demo", "--local", "--wait", "--fresh")
    again = hpc(root, "submit", "crypto", "--preset", "demo", "--local")

    history = Ledger(paths.events).history()
    assert [attempt.cause for attempt in history.attempts] == ["request", "finished"]
    assert history.attempts[1].first_step == history.attempts[0].committed_step
    page = paths.report.read_text()
    assert "synthetic" in page
    assert len(page) < 2_000_000
    assert not re.search(r"(src|href)=[\"']?https?:", page)
    assert fingerprint(paths) == fingerprint(run_of(root, whole))
    assert f"report: {paths.report}" in shown.stdout
    assert "was finished before" in again.stdout
    assert run_of(root, again) == run_of(root, whole)


def submit(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return hpc(root, "submit", "crypto", "--preset", "demo", *BRIEF, "--local", *words)


def submit_held(root: Path, *words: str) -> RunPaths:
    """Submit a run and return it when it waits at a step."""
    control.hold(root, STEP)
    paths = run_of(root, submit(root, *words))
    until(lambda: control.is_held(paths, attempt=1, step=STEP))
    return paths


def test_a_live_run_is_not_started_twice_and_a_cancelled_one_continues(root: Path) -> None:
    paths = submit_held(root)

    again = submit(root)
    hpc(root, "cancel", "crypto")
    until(lambda: '"cancelled"' in hpc(root, "status", "--json").stdout)
    saved = Ledger(paths.events).history().committed_step
    to_the_end = submit(root, "--wait")

    assert "is already at work" in again.stdout
    assert saved == STEP
    history = Ledger(paths.events).history()
    assert history.attempts[-1].first_step == saved
    assert history.finished
    assert "report:" in to_the_end.stdout


def test_a_killed_batch_side_leaves_a_run_that_the_next_submit_continues(root: Path) -> None:
    often = "training.checkpoint_every_s=0"
    paths = submit_held(root, often)
    saved = Ledger(paths.events).history().committed_step

    kill_all_in(root)
    lost = hpc(root, "status", "--plain").stdout
    control.release(root)
    submit(root, often, "--wait")

    assert saved > 0
    assert "\tlost\t" in lost
    history = Ledger(paths.events).history()
    assert history.attempts[-1].first_step == saved
    assert history.finished


def test_without_bars_nothing_is_trained_and_nothing_is_left(root: Path) -> None:
    refused = hpc(root, "submit", "crypto", "--preset", "small", "--local", check=False)

    assert refused.returncode == 3
    assert "DATA=DIR" in refused.stderr
    assert "data.source=synthetic" in refused.stderr
    assert not (root / "runs").exists()


def test_bars_of_other_assets_are_refused_before_a_job_and_leave_nothing(root: Path, tmp_path: Path) -> None:
    bars = tmp_path / "bars"
    bars.mkdir()
    (bars / "GOLD.csv").write_text("date,open,high,low,close,volume\n2024-01-02,1,2,1,2,5\n")

    done = hpc(
        root, "submit", "crypto", "--preset", "small", "--data", str(bars), "--local", "--wait", check=False
    )

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    assert "has no bars for 20 of 20 assets" in done.stderr
    assert not list(root.glob("runs/*/*"))
