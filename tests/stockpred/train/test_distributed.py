"""Ranks that meet, that do not, and that leave nothing behind."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
import toy_core

from hpc.base.errors import ExitCode, UserError
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from stockpred.train import devices, distributed
from tests.forked import LIMIT_S, Rank


def env_of(rank: int, world_size: int) -> JobEnv:
    return JobEnv.read({"RANK": str(rank), "WORLD_SIZE": str(world_size)})


def test_an_address_left_by_an_older_job_is_not_taken(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    paths.rendezvous(1).parent.mkdir()
    stale = {"host": "127.0.0.1", "port": 1, "job_id": None, "token": "gone"}
    paths.rendezvous(1).write_text(json.dumps(stale))
    ranks = toy_core.launch(tmp_path, 2, 1, {"max_steps": 2}, {})
    outputs = [rank.communicate(LIMIT_S)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    assert json.loads(paths.rendezvous(1).read_text())["port"] != 1


def test_a_rank_whose_fellows_never_come_says_so(tmp_path: Path) -> None:
    request = json.dumps({"settings": {}, "options": {"rendezvous_timeout_s": 1.0}})
    for rank in ("1", "0"):
        alone = Rank([toy_core.__file__, str(tmp_path), request], cwd=tmp_path, env=environ_of(rank))
        output, _ = alone.communicate(LIMIT_S)
        assert alone.returncode == 1, output
        assert re.search(rf"rank {rank} of 2: waited \d+ s for the others in vain", output), output


def environ_of(rank: str) -> dict[str, str]:
    own = {"PYTHONPATH": str(toy_core.REPOSITORY), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "RANK": rank, "WORLD_SIZE": "2"}


def test_ranks_that_met_but_cannot_talk_do_not_say_that_they_waited(tmp_path: Path) -> None:
    ranks = toy_core.launch(tmp_path, 2, 1, {"max_steps": 2}, {}, GLOO_SOCKET_IFNAME="nosuchnet0")
    outputs = [rank.communicate(LIMIT_S)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1], outputs
    assert any("the process group could not be formed" in output for output in outputs), outputs
    assert not any("waited" in output for output in outputs), outputs


AFTERWARDS = """
import contextlib, sys, pathlib
sys.path.insert(0, sys.argv[1])
import toy_core
from hpc.base.errors import UserError
from stockpred.config.base import TrainingConfig
settings = TrainingConfig.model_validate(toy_core.SETTINGS | {"max_steps": 4})
try:
    toy_core.main(pathlib.Path(sys.argv[2]), settings, toy_core.Options(bad_step=eval(sys.argv[3])))
except UserError as error:
    pass
names = []
for task in pathlib.Path("/proc/self/task").iterdir():
    with contextlib.suppress(OSError):  # a thread may end meanwhile
        names.append((task / "comm").read_text())
print([name for name in names if "gloo" in name or "tcpstore" in name])
"""


@pytest.mark.parametrize("bad_step", [None, 3])
def test_no_thread_of_the_group_outlives_it(tmp_path: Path, bad_step: int | None) -> None:
    script = tmp_path / "afterwards.py"
    script.write_text(AFTERWARDS)
    command = [str(script), str(Path(toy_core.__file__).parent), str(tmp_path), str(bad_step)]
    ranks = [Rank(command, cwd=tmp_path, env=environ_of(rank)) for rank in ("0", "1")]
    outputs = [rank.communicate(LIMIT_S)[0] for rank in ranks]
    assert [output.splitlines()[-1] for output in outputs] == ["[]", "[]"]
    assert [rank.returncode for rank in ranks] == [0, 0]


def test_threads_are_what_the_launcher_says_else_a_fair_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(12)))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert devices.num_threads(env_of(0, 2)) == 7
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "64")
    assert devices.num_threads(env_of(0, 2)) == 12
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    assert devices.num_threads(env_of(0, 4)) == 3
    assert devices.num_threads(env_of(0, 64)) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_whose_driver_is_there_but_which_torch_cannot_see_ends_the_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54\n")
    monkeypatch.setattr(devices, "NVIDIA_DRIVER", driver)
    built = torch.version.cuda or "built without CUDA"
    with pytest.raises(UserError, match=built) as caught:
        devices.choose_device("auto", env_of(0, 1))
    assert "training.device=cpu" in str(caught.value)
    assert devices.choose_device("cpu", env_of(0, 1)).type == "cpu"


GPU = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("gpus", "device", "warning"),
    [
        (["a 1", "a 2", "b 1"], "cuda", None),
        (["a 1", "a 1"], "cpu", devices.SHARED_GPU),
        (["a 1", None], "cpu", devices.SHARED_GPU),
        ([None, None], "cpu", devices.NO_GPU),
    ],
)
def test_automatic_ranks_take_gpus_only_where_each_has_its_own(
    gpus: list[str | None], device: str, warning: str | None
) -> None:
    for gpu in gpus:
        first = GPU if gpu else torch.device("cpu")
        found, told = devices.own_device(first, "auto", gpus)
        assert (found.type, told) == (device, warning)


def test_ranks_that_insist_on_cuda_do_not_share_a_gpu() -> None:
    with pytest.raises(UserError, match="2 ranks share 1 GPU") as caught:
        devices.own_device(GPU, "cuda", ["a 1", "a 1"])
    assert caught.value.exit_code == ExitCode.USAGE
    assert devices.own_device(GPU, "cuda", ["a 1", "a 2"]) == (GPU, None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said_plainly() -> None:
    with pytest.raises(UserError, match="sees no GPU"):
        devices.choose_device("cuda", env_of(0, 1))
    assert devices.choose_device("auto", env_of(0, 1)).type == "cpu"


MPS = torch.device("mps")


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("on_a_mac")
@pytest.mark.parametrize(("wanted", "device"), [("auto", "mps"), ("mps", "mps"), ("cpu", "cpu")])
def test_one_process_on_a_mac_trains_on_mps(wanted: str, device: str) -> None:
    chosen = devices.choose_device(wanted, env_of(0, 1))
    assert devices.own_device(chosen, wanted, [devices.name_gpu(chosen)]) == (
        torch.device(device),
        None,
    )


@pytest.mark.usefixtures("on_a_mac")
@pytest.mark.parametrize("hosts", [("a", "a"), ("a", "b")])
def test_several_ranks_on_macs_train_on_the_cpu_and_say_so(hosts: tuple[str, str]) -> None:
    assert devices.choose_device("auto", env_of(1, 2)) == MPS
    gpus = [f"{host} mps" for host in hosts]
    assert devices.own_device(MPS, "auto", gpus) == (torch.device("cpu"), devices.SEVERAL_ON_MPS)
    with pytest.raises(UserError, match="there are 2 ranks") as caught:
        devices.own_device(MPS, "mps", gpus)
    assert "resources.gpus=1" in str(caught.value.fix)


def test_cuda_comes_before_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices.choose_device("auto", env_of(0, 1)) == GPU
    assert devices.choose_device("mps", env_of(0, 1)) == MPS


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")
def test_mps_that_is_not_there_is_said_plainly() -> None:
    with pytest.raises(UserError, match="sees no MPS"):
        devices.choose_device("mps", env_of(0, 1))


def test_in_a_world_of_one_every_agreement_is_ones_own() -> None:
    group = distributed.Group(env_of(0, 1), torch.device("cpu"))
    assert group.reduce_max([1.0, -2.0]) == [1.0, -2.0]
    assert group.gather("x") == ["x"]
    assert group.gather_floats([2.0]) == [[2.0]]
    assert group.from_main({"step": 3}) == {"step": 3}
