"""What the cluster offers: its partitions, their limits and the nodes in them, by three quick questions."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpc.base import shell
from hpc.base.errors import ExitCode, UserError
from hpc.base.text import count, duration
from hpc.slurm import parse
from hpc.slurm.parse import NodeGroup

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Partition:
    """One partition with its kinds of nodes; its limits are infinite where there are none."""

    name: str
    is_default: bool
    is_up: bool
    max_limit_s: float
    max_nodes: float
    groups: tuple[NodeGroup, ...]

    @property
    def num_nodes(self) -> int:
        return sum(group.num_nodes for group in self.groups)

    def summary(self) -> str:
        """Say what the partition has: ``long: 4 nodes (2 idle): 4 with 8 a100, 128 CPUs, 500 GB; ...``."""
        kinds = {_kind(group): 0 for group in self.groups}
        for group in self.groups:
            kinds[_kind(group)] += group.num_nodes
        num_idle = sum(group.num_nodes for group in self.groups if group.state.startswith("idle"))
        nodes = " + ".join(f"{number} with {kind}" for kind, number in kinds.items())
        limit = "no time limit" if math.isinf(self.max_limit_s) else f"up to {duration(self.max_limit_s)}"
        state = "" if self.is_up else "; down"
        return f"{self.name}: {count(self.num_nodes, 'node')} ({num_idle} idle): {nodes}; {limit}{state}"


@dataclass(frozen=True)
class Cluster:
    """A Slurm as discovered; ``settings`` is ``scontrol show config`` as text."""

    name: str
    partitions: tuple[Partition, ...]
    settings: Mapping[str, str]

    @property
    def default_partition(self) -> Partition | None:
        return next((partition for partition in self.partitions if partition.is_default), None)

    def partition(self, name: str | None) -> Partition | None:
        """Return the partition of that name; for None the site's default."""
        if name is None:
            return self.default_partition
        return next((partition for partition in self.partitions if partition.name == name), None)

    def summary(self) -> str:
        """Say in one line per partition what it has and what is free."""
        return "\n".join(f"  {partition.summary()}" for partition in self.partitions)

    @property
    def lets_requeue(self) -> bool:
        return self.settings.get("JobRequeue", "1") == "1"

    @property
    def max_array_size(self) -> int:
        """One more than the highest number that a task of an array may have (slurm.conf, MaxArraySize)."""
        return int(self.settings.get("MaxArraySize", "1001"))


def slurm_is_here() -> bool:
    """Say whether this machine belongs to a Slurm; raise UserError for one that does not answer.

    Programs without a configuration are no Slurm: Debian installs them on any laptop.
    """
    if not shell.has("sbatch"):
        return False
    chosen = os.environ.get("SLURM_CONF")
    if chosen and not Path(chosen).exists():
        raise UserError(
            "SLURM_CONF names a file that does not exist", where=chosen, fix="correct or unset SLURM_CONF"
        )
    answer = _ask("scontrol", "ping")
    if answer.is_ok:
        return True
    if answer.code == 124 or "DOWN" in answer.out or "contact" in answer.err:
        raise _silent(answer)
    return False


def discover() -> Cluster | None:
    """Ask sinfo and scontrol what there is; None where there is no Slurm."""
    if not slurm_is_here():
        return None
    nodes = parse.node_groups(_answer("sinfo", "--noheader", "--exact", "--format", parse.SINFO_FORMAT))
    partitions = parse.partition_facts(_answer("scontrol", "show", "partition"))
    settings = parse.settings(_answer("scontrol", "show", "config"))
    return assemble(nodes, partitions, settings)


def assemble(
    nodes: tuple[NodeGroup, ...],
    partitions: tuple[parse.PartitionFacts, ...],
    settings: Mapping[str, str],
) -> Cluster:
    """Put the three answers together."""
    return Cluster(
        name=settings.get("ClusterName", "this cluster"),
        partitions=tuple(
            Partition(
                name=facts.name,
                is_default=facts.is_default,
                is_up=facts.is_up,
                max_limit_s=facts.max_limit_s,
                max_nodes=facts.max_nodes,
                groups=tuple(group for group in nodes if group.partition == facts.name),
            )
            for facts in partitions
        ),
        settings=settings,
    )


def _kind(group: NodeGroup) -> str:
    gpus = "".join(f"{gpus.count} {gpus.type or 'GPU'}, " for gpus in group.gpus)
    return f"{gpus}{group.num_cpus} CPUs, {group.memory_mb // 1024} GB"


def _ask(*command: str) -> shell.Completed:
    return shell.run(command, timeout_s=TIMEOUT_S, environ=shell.without_slurm())


def _answer(*command: str) -> str:
    answer = _ask(*command)
    if not answer.is_ok:
        raise _silent(answer)
    return answer.out


def _silent(answer: shell.Completed) -> UserError:
    said = (answer.err or answer.out).strip().splitlines()
    return UserError(
        f"Slurm does not answer: {said[0] if said else f'exit code {answer.code}'}",
        fix="try again when `sinfo` answers, or run on this machine alone: --local",
        exit_code=ExitCode.NO_SLURM,
    )
