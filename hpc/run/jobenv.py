"""Who am I in this job: rank, world and attempt, as srun, torchrun or the local launcher tell it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

ATTEMPT = "HPC_ATTEMPT"
DEADLINE = "HPC_DEADLINE"
LEASE = "HPC_LEASE"


@dataclass(frozen=True)
class JobEnv:
    """One process's place in its job.

    ``deadline`` is the epoch second at which the allocation ends, None where nothing ends it.
    ``lease`` is the token with which this attempt holds its run directory, None outside of a launcher.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node: int
    num_nodes: int
    job_id: str | None
    attempt: int
    deadline: float | None
    lease: str | None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> JobEnv:
        """Read the environment; explicit RANK and WORLD_SIZE win over srun's, else one plain process."""
        environ = os.environ if environ is None else environ
        if "RANK" in environ and "WORLD_SIZE" in environ:
            place = _from_torchrun(environ)
        elif "SLURM_PROCID" in environ and "SLURM_STEP_ID" in environ:
            place = _from_srun(environ)
        else:
            place = (0, 1, 0, 1, 0, 1)
        deadline = environ.get(DEADLINE)
        return cls(
            *place,
            job_id=environ.get("SLURM_JOB_ID"),
            attempt=int(environ.get(ATTEMPT, "1")),
            deadline=float(deadline) if deadline else None,
            lease=environ.get(LEASE),
        )


def num_cores() -> int:
    """Return the cores that this process may use; all of the machine where nothing confines it (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _from_torchrun(environ: Mapping[str, str]) -> tuple[int, int, int, int, int, int]:
    rank, world_size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    local_rank = int(environ.get("LOCAL_RANK", rank))
    local_world_size = int(environ.get("LOCAL_WORLD_SIZE", world_size))
    node = int(environ.get("GROUP_RANK", rank // local_world_size))
    return rank, world_size, local_rank, local_world_size, node, -(-world_size // local_world_size)


def _from_srun(environ: Mapping[str, str]) -> tuple[int, int, int, int, int, int]:
    world_size = int(environ["SLURM_NTASKS"])
    num_nodes = int(environ.get("SLURM_JOB_NUM_NODES", "1"))
    return (
        int(environ["SLURM_PROCID"]),
        world_size,
        int(environ.get("SLURM_LOCALID", "0")),
        max(1, world_size // num_nodes),
        int(environ.get("SLURM_NODEID", "0")),
        num_nodes,
    )
