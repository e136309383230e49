"""Killed with -9 at twenty moments and resumed each time, a run ends bit for bit like one that was not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from hpc.attempt.submit import write_run
from hpc.plan.plan import build
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from tests.slurm.workspaces import PROJECT, fingerprint

NUM_RANKS = 2
MOMENTS = ("step", "evaluate", "save")
NUM_KILLS = 20
SETTINGS = (
    "data.synthetic.num_bars=400",
    "training.epochs=60",
    "training.batch_size=16",
    "training.patience=1000",
    "training.evaluations_per_epoch=2",
    "training.checkpoint_every_s=0",
    "training.min_step_s=0.05",
)


def test_twenty_kills_at_random_moments_change_no_bit(tmp_path: Path) -> None:
    whole = new_run(tmp_path / "whole")
    assert attempt(whole, 1, moment=None) == 0
    broken = new_run(tmp_path / "broken")
    chance = random.Random(20)
    kills = [MOMENTS[index % len(MOMENTS)] for index in range(NUM_KILLS)]

    for number, moment in enumerate(kills, start=1):
        assert attempt(broken, number, moment=moment, after_s=chance.uniform(0.3, 1.2)) < 0
    assert attempt(broken, NUM_KILLS + 1, moment=None) == 0

    assert fingerprint(broken) == fingerprint(whole)
    assert Counter(kills) == {"step": 7, "evaluate": 7, "save": 6}
    resumed = [row["step"] for row in Ledger(broken.events).rows() if row["kind"] == "resumed"]
    assert len(resumed) >= NUM_KILLS // 2
    assert resumed == sorted(resumed)


def new_run(root: Path) -> RunPaths:
    root.mkdir()
    for folder in ("cases", "slurm"):
        (root / folder).symlink_to(PROJECT / folder)
    plan = build(root, "crypto", preset="demo", overrides=SETTINGS)
    write_run(plan)
    return plan.paths


def attempt(paths: RunPaths, number: int, *, moment: str | None, after_s: float = 0.0) -> int:
    """Run the ranks; kill them all within ``moment`` after ``after_s`` of training. Return rank 0's code."""
    mark = paths.root / "mark"
    mark.unlink(missing_ok=True)
    ranks = [start(paths, number, rank, mark) for rank in range(NUM_RANKS)]
    try:
        if moment is not None:
            wait_for(mark, "step", ranks[0])
            time.sleep(after_s)
            wait_for(mark, moment, ranks[0])
            for rank in ranks:
                rank.kill()
        codes = [rank.wait(timeout=240) for rank in ranks]
        return codes[0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def start(paths: RunPaths, number: int, rank: int, mark: Path) -> subprocess.Popen[bytes]:
    root = paths.root.parents[2]
    environ = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "OMP_NUM_THREADS": "1",
        "HPC_ATTEMPT": str(number),
        "RANK": str(rank),
        "WORLD_SIZE": str(NUM_RANKS),
        "LOCAL_WORLD_SIZE": str(NUM_RANKS),
    }
    script = str(Path(__file__).with_name("marked_rank.py"))
    own_mark = mark if rank == 0 else paths.root / f"mark_{rank}"
    with paths.rank_log(rank).open("ab") as log:
        command = [sys.executable, script, str(paths.root.relative_to(root)), str(own_mark)]
        return subprocess.Popen(command, cwd=root, env=environ, stdout=log, stderr=subprocess.STDOUT)


def wait_for(mark: Path, word: str, rank: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not mark.exists() or mark.read_text() != word:
        assert rank.poll() is None, f"the rank ended by itself before it was in a {word}"
        assert time.monotonic() < deadline
