"""A rank's place and device, as ``setup_distributed`` finds them, without any other rank."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hpc.base.errors import UserError
from hpc.run.jobenv import JobEnv
from stockpred.library import processes
from stockpred.train.distributed import Group

SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize("environ", [{}, SRUN, SRUN | {"WORLD_SIZE": "2"}], ids=["none", "srun", "both"])
@pytest.mark.parametrize("given", [{"rank": 0}, {"world_size": 2}], ids=["rank", "world_size"])
def test_a_rank_without_the_number_of_ranks_is_refused(given: Any, environ: dict[str, str]) -> None:
    if "WORLD_SIZE" in environ and "rank" in given:
        assert processes.environment(**given, environ=environ).world_size == 2
        return
    with pytest.raises(UserError, match="is not set") as caught:
        processes.environment(**given, environ=environ)
    assert caught.value.fix


@pytest.mark.parametrize("exported", [{}, {"WORLD_SIZE": "2"}], ids=["srun", "and WORLD_SIZE"])
def test_under_srun_its_variables_tell_the_place(exported: dict[str, str]) -> None:
    env = processes.environment(environ=SRUN | exported)
    assert (env.rank, env.world_size) == (1, 2)


@pytest.mark.parametrize("address", [None, "node0"])
def test_the_device_is_that_on_which_the_ranks_agreed(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    """Two ranks see one GPU: each would take it, and together they train on the CPU."""
    env = JobEnv.read({"RANK": "0", "WORLD_SIZE": "2"})
    agreed = Group(env, torch.device("cpu"), "not every rank had a GPU of its own")
    monkeypatch.setattr(processes, "choose_device", lambda *_: torch.device("cuda", 0))
    monkeypatch.setattr(processes.distributed, "connect", lambda *_, **__: agreed)
    monkeypatch.setattr(processes, "current_group", lambda *_: agreed)
    monkeypatch.setattr(processes, "_meet_at_address", lambda *_: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    if address is not None:
        monkeypatch.setenv("MASTER_ADDR", address)
    assert processes.setup_distributed(0, 2) == torch.device("cpu")


def test_a_device_that_is_not_there_is_told_with_the_arguments_of_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="device is cuda, but this process sees no GPU") as caught:
        processes.current_group("cuda", alone=True)
    assert "training." not in str(caught.value)
    assert "resources." not in str(caught.value)
