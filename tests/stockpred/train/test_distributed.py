"""Ranks that meet, that do not, and that leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_core

from hpc.errors import UserError
from hpc.jobenv import JobEnv
from hpc.paths import RunPaths
from stockpred.train import distributed


def env_of(rank: int, world_size: int) -> JobEnv:
    return JobEnv.read({"RANK": str(rank), "WORLD_SIZE": str(world_size)})


def test_an_address_left_by_an_older_job_is_not_taken(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    paths.rendezvous(1).parent.mkdir()
    stale = {"host": "127.0.0.1", "port": 1, "job_id": None, "token": "gone"}
    paths.rendezvous(1).write_text(json.dumps(stale))
    ranks = toy_core.launch(tmp_path, 2, 1, {"max_steps": 2}, {})
    outputs = [rank.communicate(timeout=60)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    assert json.loads(paths.rendezvous(1).read_text())["port"] != 1


def test_a_rank_whose_fellows_never_come_says_so(tmp_path: Path) -> None:
    request = json.dumps({"settings": {}, "options": {"rendezvous_timeout_s": 1.0}})
    environ = os.environ | {"PYTHONPATH": str(toy_core.REPOSITORY), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    program = [sys.executable, toy_core.__file__, str(tmp_path), request]
    for rank in ("1", "0"):
        result = subprocess.run(
            program, env=environ | {"RANK": rank}, capture_output=True, text=True, check=False, timeout=60
        )
        assert result.returncode == 1, result.stderr
        assert f"rank {rank} of 2 waited 1 s for the others in vain" in result.stdout


AFTERWARDS = """
import os, sys, pathlib
sys.path.insert(0, sys.argv[1])
import toy_core
from hpc.errors import UserError
from stockpred.config import TrainingConfig
settings = TrainingConfig.model_validate(toy_core.SETTINGS | {"max_steps": 4})
try:
    toy_core.main(pathlib.Path(sys.argv[2]), settings, toy_core.Options(bad_step=eval(sys.argv[3])))
except UserError as error:
    pass
tasks = pathlib.Path("/proc/self/task").iterdir()
print([name for task in tasks if "gloo" in (name := (task / "comm").read_text()) or "tcpstore" in name])
"""


@pytest.mark.parametrize("bad_step", [None, 3])
def test_no_thread_of_the_group_outlives_it(tmp_path: Path, bad_step: int | None) -> None:
    environ = os.environ | {"PYTHONPATH": str(toy_core.REPOSITORY), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    arguments = [str(Path(toy_core.__file__).parent), str(tmp_path), str(bad_step)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", AFTERWARDS, *arguments],
            env=environ | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [rank.communicate(timeout=60)[0] for rank in ranks] == ["[]\n", "[]\n"]
    assert [rank.returncode for rank in ranks] == [0, 0]


def test_threads_are_what_the_launcher_says_else_a_fair_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert distributed.num_threads(env_of(0, 2)) == 7
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(12)))
    assert distributed.num_threads(env_of(0, 4)) == 3
    assert distributed.num_threads(env_of(0, 64)) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said_plainly() -> None:
    with pytest.raises(UserError, match="sees no GPU"):
        distributed.choose_device("cuda", env_of(0, 1))
    assert distributed.choose_device("auto", env_of(0, 1)).type == "cpu"


def test_in_a_world_of_one_every_agreement_is_ones_own() -> None:
    group = distributed.Group(env_of(0, 1), torch.device("cpu"))
    assert group.reduce_max([1.0, -2.0]) == [1.0, -2.0]
    assert group.gather("x") == ["x"]
    assert group.gather_floats([2.0]) == [[2.0]]
    assert group.from_main({"step": 3}) == {"step": 3}
