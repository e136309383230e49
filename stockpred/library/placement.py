"""Where ranks come from: this process alone, a rank that somebody started, or ranks to be started here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.distributed as dist

from hpc.base.errors import UserError
from stockpred.library.options import DistributedConfig

HOW_BY_HAND = (
    "on each node set MASTER_ADDR and MASTER_PORT to those of the first node, WORLD_SIZE to the number of "
    "all processes and RANK to the rank of the node's first process, or start with torchrun or srun"
)


class Role(StrEnum):
    """What a process that calls ``train`` is."""

    ALONE = "alone"
    RANK = "rank"
    STARTER = "starter"
    """It starts the ranks of its node as processes and waits for them."""


@dataclass(frozen=True)
class Placement:
    """A role and, for a starter, the ranks of this node: ``first_rank`` up to ``first_rank + num_ranks``."""

    role: Role
    first_rank: int = 0
    num_ranks: int = 1
    world_size: int = 1


def placement_of(config: DistributedConfig, environ: Mapping[str, str] | None = None) -> Placement:
    """Read what this process is from the group it is in, from torchrun, srun or a person's own variables.

    Raises UserError where the variables contradict the configuration.
    """
    environ = os.environ if environ is None else environ
    if not config.use_distributed:
        return Placement(Role.ALONE)
    if dist.is_initialized() or _is_started_rank(environ):
        return Placement(Role.RANK)
    num_ranks = config.gpus_per_node or max(1, torch.cuda.device_count())
    if "RANK" in environ:
        return _by_hand(config, environ, num_ranks)
    if config.num_nodes > 1:
        raise UserError(
            f"num_nodes is {config.num_nodes}, but nothing says which node this is", fix=HOW_BY_HAND
        )
    if num_ranks == 1 or config.parallel == "data_parallel":
        return Placement(Role.ALONE)
    return Placement(Role.STARTER, 0, num_ranks, num_ranks)


def _is_started_rank(environ: Mapping[str, str]) -> bool:
    is_torchrun = {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= environ.keys()
    is_srun = "SLURM_PROCID" in environ and "SLURM_STEP_ID" in environ and "RANK" not in environ
    return is_torchrun or (is_srun and int(environ.get("SLURM_NTASKS", "1")) > 1)


def _by_hand(config: DistributedConfig, environ: Mapping[str, str], num_ranks: int) -> Placement:
    """Return the ranks of this node, whose first process has the rank that the person set."""
    if num_ranks == 1:
        return Placement(Role.RANK)
    first, world_size = int(environ["RANK"]), config.num_nodes * num_ranks
    claimed = int(environ.get("WORLD_SIZE", world_size))
    if claimed != world_size:
        raise UserError(
            f"WORLD_SIZE is {claimed}, but num_nodes x gpus_per_node is {config.num_nodes} x {num_ranks}",
            where="WORLD_SIZE",
            fix=f"set WORLD_SIZE={world_size}, or num_nodes and gpus_per_node to what there is",
        )
    if first % num_ranks or first >= world_size:
        raise UserError(
            f"RANK is {first}, which is not the rank of a node's first process",
            where="RANK",
            fix=f"set RANK to one of {', '.join(map(str, range(0, world_size, num_ranks)))}",
        )
    return Placement(Role.STARTER, first, num_ranks, world_size)
