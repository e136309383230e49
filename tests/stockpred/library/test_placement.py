"""What a process is: alone, a rank that somebody started, or what starts the ranks of its node."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hpc.base.errors import UserError
from stockpred.library.options import DistributedConfig
from stockpred.library.placement import Placement, Role, placement_of
from stockpred.library.processes import environment

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2"}
ONE_TASK = SRUN | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("config", "environ", "expected"),
    [
        ({"use_distributed": False, "gpus_per_node": 4}, TORCHRUN, Placement(Role.ALONE)),
        ({"gpus_per_node": 1}, {}, Placement(Role.ALONE)),
        ({"gpus_per_node": 4}, {}, Placement(Role.STARTER, 0, 4, 4)),
        ({"gpus_per_node": 4, "parallel": "data_parallel"}, {}, Placement(Role.ALONE)),
        ({"gpus_per_node": 2, "num_nodes": 2}, TORCHRUN, Placement(Role.RANK)),
        ({}, SRUN, Placement(Role.RANK)),
        ({"gpus_per_node": 2}, ONE_TASK, Placement(Role.STARTER, 0, 2, 2)),
        ({"gpus_per_node": 4, "num_nodes": 2}, {"RANK": "4"}, Placement(Role.STARTER, 4, 4, 8)),
        (
            {"gpus_per_node": 4, "num_nodes": 2},
            {"RANK": "0", "WORLD_SIZE": "8"},
            Placement(Role.STARTER, 0, 4, 8),
        ),
        ({"gpus_per_node": 1}, {"RANK": "1", "WORLD_SIZE": "2"}, Placement(Role.RANK)),
    ],
)
def test_a_process_finds_its_part(
    config: dict[str, Any], environ: dict[str, str], expected: Placement
) -> None:
    assert placement_of(DistributedConfig(**config), environ) == expected


@pytest.mark.parametrize(
    ("config", "environ", "said"),
    [
        ({"gpus_per_node": 4, "num_nodes": 2}, {}, "nothing says which node this is"),
        ({"gpus_per_node": 4, "num_nodes": 2}, {"RANK": "1"}, "not the rank of a node's first process"),
        ({"gpus_per_node": 4, "num_nodes": 2}, {"RANK": "0", "WORLD_SIZE": "2"}, "is 2 x 4"),
    ],
)
def test_variables_that_contradict_the_configuration_are_one_clear_error(
    config: dict[str, Any], environ: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        placement_of(DistributedConfig(**config), environ)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"backend": "ncll"}, "did you mean 'nccl'"),
        ({"gradient_compression": "fp8"}, "gradient_compression"),
        ({"gpus_per_node": 0}, "gpus_per_node is 0"),
        ({"save_frequency": 0, "backend": "x"}, "(?s)backend.*save_frequency"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_when_it_is_made(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        DistributedConfig(**config)
    assert re.search(said, str(caught.value))


def test_a_rank_is_what_the_call_says_else_what_the_environment_says() -> None:
    env = environment(1, 2, {"RANK": "7", "WORLD_SIZE": "9"})
    assert (env.rank, env.world_size, env.local_rank, env.num_nodes) == (1, 2, 1, 1)
    assert environment(environ={"RANK": "1", "WORLD_SIZE": "2"}).rank == 1
    assert environment(environ=SRUN).rank == 1
    with pytest.raises(UserError, match="RANK and WORLD_SIZE is not set"):
        environment(environ={})
