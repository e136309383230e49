"""Killed with -9 in steps, evaluations and saves and resumed each time, a run ends bit for bit like one that
was not.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpc.attempt.submit import write_run
from hpc.plan.plan import build
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from tests.forked import Rank
from tests.holds.control import PROJECT
from tests.slurm.clusters import COMMAND_TIMEOUT_S
from tests.slurm.workspaces import fingerprint

NUM_RANKS = 2
# Of each act since the start of an attempt, the last one in which it may die; an attempt has 4 steps for each
# evaluation and each save, so that no kill comes more than 30 steps after the one before.
MOST = {"step": 30, "evaluate": 7, "save": 7}
STEPS_PER_KILL = 32
STEPS_PER_EPOCH = 8
SETTINGS = (
    "data.synthetic.num_bars=400",
    "model.d_model=32",
    "model.num_layers=1",
    "training.batch_size=16",
    "training.patience=1000",
    "training.evaluations_per_epoch=2",
    "training.checkpoint_every_s=0",
)


@dataclass(frozen=True)
class Death:
    """In which act since the start of an attempt rank 0 dies, and after what fraction of its time."""

    act: str
    number: int
    fraction: float

    @property
    def words(self) -> tuple[str, str, str]:
        return self.act, str(self.number), str(self.fraction)


@pytest.mark.parametrize("num_kills", [6, pytest.param(20, marks=pytest.mark.long)])
def test_kills_in_steps_evaluations_and_saves_change_no_bit(tmp_path: Path, num_kills: int) -> None:
    epochs = f"training.epochs={num_kills * STEPS_PER_KILL // STEPS_PER_EPOCH + 1}"
    whole, broken = (new_run(tmp_path / name, epochs) for name in ("whole", "broken"))
    chance = random.Random(num_kills)
    deaths = [a_death(act, chance) for _, act in zip(range(num_kills), [*MOST] * num_kills, strict=False)]

    assert attempt(whole, 1, None) == 0
    codes = [attempt(broken, number, death) for number, death in enumerate(deaths, start=1)]
    assert attempt(broken, num_kills + 1, None) == 0

    assert codes == [-9] * num_kills
    assert fingerprint(broken) == fingerprint(whole)
    resumed = [row["step"] for row in Ledger(broken.events).rows() if row["kind"] == "resumed"]
    assert len(resumed) == num_kills
    assert resumed == sorted(set(resumed))


def a_death(act: str, chance: random.Random) -> Death:
    return Death(act, chance.randint(2, MOST[act]), chance.random())


def new_run(root: Path, *overrides: str) -> RunPaths:
    root.mkdir()
    for folder in ("cases", "slurm"):
        (root / folder).symlink_to(PROJECT / folder)
    plan = build(root, "crypto", preset="demo", overrides=(*SETTINGS, *overrides))
    write_run(plan)
    return plan.paths


def attempt(paths: RunPaths, number: int, death: Death | None) -> int:
    """Run the ranks; when rank 0 dies its ``death``, kill the others. Return rank 0's exit code."""
    ranks = [start(paths, number, rank, death if rank == 0 else None) for rank in range(NUM_RANKS)]
    try:
        code = ranks[0].wait(COMMAND_TIMEOUT_S)
        others = [rank.wait(COMMAND_TIMEOUT_S) for rank in ranks[1:] if code == 0]
        assert not any(others), [rank.communicate()[0] for rank in ranks]
        return code
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def start(paths: RunPaths, number: int, rank: int, death: Death | None) -> Rank:
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
    script = str(Path(__file__).with_name("killed_rank.py"))
    words = death.words if death else ()
    return Rank([script, str(paths.root.relative_to(root)), *words], cwd=root, env=environ)
