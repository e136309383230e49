"""Checks before a submit: what Slurm would refuse, let wait for ever, or let fail hours later.

Slurm accepts a job whose limit is beyond the partition's and leaves it pending for ever. Each check is a
function from the plan (and the cluster) to its findings: add one to ``PLAN_CHECKS`` or ``CLUSTER_CHECKS``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from hpc.base import shell
from hpc.base.text import count, duration, suggestion
from hpc.plan.array import AnyPlan, ArrayPlan
from hpc.plan.finding import Finding, Severity
from hpc.slurm.cluster import Cluster, Partition
from hpc.slurm.parse import NodeGroup

NODE_LOCAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "ramfs")
MB_PER_GB = 1024


def check(plan: AnyPlan, cluster: Cluster | None) -> list[Finding]:
    """Check a plan against this machine and, where there is one, against the cluster."""
    found = [finding for checker in PLAN_CHECKS for finding in checker(plan)]
    if cluster is None:
        return found + list(_fits_one_machine(plan))
    partition = cluster.partition(plan.resources.partition)
    if partition is None:
        return [*found, _unknown_partition(plan, cluster)]
    found.append(_ok("partition", f"{partition.name}: {count(partition.num_nodes, 'node')}"))
    return found + [finding for checker in CLUSTER_CHECKS for finding in checker(plan, cluster, partition)]


def _run_directory_is_writable(plan: AnyPlan) -> Iterator[Finding]:
    nearest = plan.paths.root
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        yield _ok("run directory", plan.run_dir)
        return
    reason = "is not writable" if nearest.is_dir() else "is not a directory"
    fix = "free that name" if reason == "is not a directory" else f"chmod u+rwx {nearest}"
    yield Finding(
        "run directory",
        Severity.FAIL,
        f"the run directory cannot be made: {nearest.name} {reason}",
        fix,
        str(nearest),
    )


def _script_parses(plan: AnyPlan) -> Iterator[Finding]:
    answer = shell.run(["bash", "-n"], stdin=plan.script, timeout_s=10)
    if answer.is_ok:
        yield _ok("script", "bash -n accepts it")
        return
    where = f"cases/{plan.case}/job.sbatch.j2"
    yield Finding(
        "script",
        Severity.FAIL,
        f"the script is not valid bash: {answer.err.strip()}",
        "mend resources.setup or the template",
        where,
    )


def _signal_has_time(plan: AnyPlan) -> Iterator[Finding]:
    if plan.resources.gets_early_signal or plan.resources.signal_lead_s == 0:
        return
    lead = f"{plan.resources.signal_lead_s} s of lead in a limit of {duration(plan.resources.limit_s)}"
    what = f"no early signal: {lead}; the deadline alone stops the run"
    yield Finding("signal", Severity.WARN, what, None, plan.config.origin("resources.limit"))


def _fits_one_machine(plan: AnyPlan) -> Iterator[Finding]:
    if plan.resources.nodes > 1:
        what = f"no Slurm here: the ranks of {plan.resources.nodes} nodes run on this machine"
        yield Finding(
            "nodes", Severity.WARN, what, "resources.nodes=1", plan.config.origin("resources.nodes")
        )


def _partition_is_up(plan: AnyPlan, cluster: Cluster, partition: Partition) -> Iterator[Finding]:
    if not partition.is_up:
        yield Finding(
            "partition state",
            Severity.WARN,
            f"partition {partition.name} starts no jobs now",
            "wait, or choose another",
        )


def _limit_is_allowed(plan: AnyPlan, cluster: Cluster, partition: Partition) -> Iterator[Finding]:
    if plan.resources.limit_s <= partition.max_limit_s:
        yield _ok("limit", plan.resources.limit)
        return
    longest = duration(partition.max_limit_s)
    allowed = f"partition {partition.name} allows ({longest})"
    what = f"{plan.resources.limit} is longer than {allowed}: it would wait for ever"
    enough = [other.name for other in cluster.partitions if other.max_limit_s >= plan.resources.limit_s]
    fix = f"lower resources.limit to {_slurm_time(partition.max_limit_s)}"
    yield _fail(
        plan,
        "limit",
        "resources.limit",
        what,
        fix + (f", or use partition {', '.join(enough)}" if enough else ""),
    )


def _gpus_exist(plan: AnyPlan, cluster: Cluster, partition: Partition) -> Iterator[Finding]:
    resources = plan.resources
    if resources.gpu_request == "none":
        return
    offered = sorted({gpus.type or "gpu" for group in partition.groups for gpus in group.gpus})
    most = max((_num_gpus(group, resources.gpu_type) for group in partition.groups), default=0)
    if not offered:
        what = f"partition {partition.name} has no GPUs"
        having = [other.name for other in cluster.partitions if any(group.gpus for group in other.groups)]
        fix = f"use partition {', '.join(having)}" if having else "resources.gpu_request=none trains on CPUs"
        yield _fail(plan, "gpu type", "resources.partition", what, fix)
    elif most == 0:
        what = f"partition {partition.name} has no {resources.gpu_type} GPUs"
        yield _fail(
            plan, "gpu type", "resources.gpu_type", what, suggestion(str(resources.gpu_type), offered)
        )
    elif resources.gpus > most:
        what = f"{resources.gpus} GPUs per node are asked for; the nodes of {partition.name} have {most}"
        yield _fail(plan, "gpus", "resources.gpus", what, f"resources.gpus={most}, and more resources.nodes")
    else:
        yield _ok("gpus", f"{resources.gpus} of {most} per node")


def _nodes_hold_the_share(plan: AnyPlan, cluster: Cluster, partition: Partition) -> Iterator[Finding]:
    """Compare CPUs and memory with the nodes that have the GPUs; say which share would fit."""
    resources = plan.resources
    groups = _groups_with_gpus(plan, partition)
    if not groups:
        return
    most_cpus = max(group.num_cpus for group in groups)
    if resources.num_cpus_per_node > most_cpus:
        what = f"{resources.gpus} x {resources.cpus_per_gpu} CPUs are asked for; the nodes have {most_cpus}"
        fix = f"resources.cpus_per_gpu={most_cpus // resources.gpus}"
        yield _fail(plan, "cpus", "resources.cpus_per_gpu", what, fix)
    most_mb = max(group.memory_mb for group in groups)
    if resources.memory_gb_per_node * MB_PER_GB > most_mb:
        most_gb = most_mb // MB_PER_GB
        share = f"{resources.gpus} x {resources.memory_gb_per_gpu} GB"
        what = f"{share} of memory are asked for; the nodes have {most_gb} GB"
        fix = f"resources.memory_gb_per_gpu={most_gb // resources.gpus}"
        yield _fail(plan, "memory", "resources.memory_gb_per_gpu", what, fix)


def _nodes_are_enough(plan: AnyPlan, cluster: Cluster, partition: Partition) -> Iterator[Finding]:
    resources = plan.resources
    available = sum(group.num_nodes for group in _groups_with_gpus(plan, partition))
    most = min(available, partition.max_nodes)
    if available and resources.nodes > most:
        what = f"{resources.nodes} nodes are asked for; partition {partition.name} gives at most {most:g}"
        yield _fail(plan, "nodes", "resources.nodes", what, f"resources.nodes={most:g}")


def _array_is_allowed(plan: AnyPlan, cluster: Cluster, partition: Partition) -> Iterator[Finding]:
    """Slurm limits the number of a task, hence also how many tasks there can be (MaxArraySize)."""
    most = cluster.max_array_size
    if not isinstance(plan, ArrayPlan):
        return
    if len(plan.runs) <= most:
        yield _ok("array", count(len(plan.runs), "run"))
        return
    what = f"an array of {len(plan.runs)} runs is too large: {cluster.name} allows {most}"
    fix = f"submit at most {most} at a time, with --only or shorter array.values"
    yield _fail(plan, "array", "array.key", what, fix)


def _may_be_requeued(plan: AnyPlan, cluster: Cluster, partition: Partition) -> Iterator[Finding]:
    if plan.resources.requeue and not cluster.lets_requeue:
        what = f"{cluster.name} requeues no jobs (JobRequeue=0): a successor job continues the run"
        yield Finding("requeue", Severity.WARN, what)


def _root_holds_no_pattern(plan: AnyPlan, cluster: Cluster, partition: Partition) -> Iterator[Finding]:
    """Slurm fills %j and its like in anywhere in the path of a log, the working directory's part included."""
    pattern = re.search(r"%[0-9]*[AaJjNnstuxb]", str(plan.root))
    if pattern:
        what = f"Slurm would replace {pattern[0]} in the workspace's path and find no place for the log"
        yield Finding("workspace path", Severity.FAIL, what, "rename the directory", str(plan.root))


def _workspace_is_shared(plan: AnyPlan, cluster: Cluster, partition: Partition) -> Iterator[Finding]:
    kind = _file_system(plan.root)
    if kind in NODE_LOCAL:
        what = f"the workspace is on {kind}, which other nodes may not see"
        yield Finding(
            "workspace",
            Severity.WARN,
            what,
            "work in a shared directory if the nodes are other machines",
            str(plan.root),
        )
    else:
        yield _ok("workspace", f"on {kind or 'an unknown file system'}")


PlanChecker = Callable[[AnyPlan], Iterator[Finding]]
ClusterChecker = Callable[[AnyPlan, Cluster, Partition], Iterator[Finding]]
PLAN_CHECKS: tuple[PlanChecker, ...] = (
    _run_directory_is_writable,
    _script_parses,
    _signal_has_time,
)
CLUSTER_CHECKS: tuple[ClusterChecker, ...] = (
    _partition_is_up,
    _limit_is_allowed,
    _gpus_exist,
    _nodes_hold_the_share,
    _nodes_are_enough,
    _array_is_allowed,
    _may_be_requeued,
    _workspace_is_shared,
    _root_holds_no_pattern,
)


def _ok(name: str, what: str) -> Finding:
    return Finding(name, Severity.OK, what)


def _fail(plan: AnyPlan, name: str, key: str, what: str, fix: str) -> Finding:
    return Finding(name, Severity.FAIL, what, fix, plan.config.origin(key))


def _unknown_partition(plan: AnyPlan, cluster: Cluster) -> Finding:
    names = [partition.name for partition in cluster.partitions]
    wanted = plan.resources.partition
    if wanted is None:
        fix = f"set resources.partition to one of: {', '.join(names)}"
        return _fail(
            plan, "partition", "resources.partition", f"{cluster.name} has no default partition", fix
        )
    what = f"partition {wanted!r} does not exist on {cluster.name}"
    return _fail(plan, "partition", "resources.partition", what, suggestion(wanted, names))


def _num_gpus(group: NodeGroup, wanted_type: str | None) -> int:
    return sum(gpus.count for gpus in group.gpus if wanted_type in (None, gpus.type))


def _groups_with_gpus(plan: AnyPlan, partition: Partition) -> list[NodeGroup]:
    resources = plan.resources
    if resources.gpu_request == "none":
        return list(partition.groups)
    return [group for group in partition.groups if _num_gpus(group, resources.gpu_type) >= resources.gpus]


def _slurm_time(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def _file_system(path: Path) -> str | None:
    """Return the type of the file system that holds ``path``, as Linux lists it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return None
    resolved = path.resolve()
    holding = [
        (len(point), kind)
        for _, point, kind, *_ in mounts
        if resolved.is_relative_to(point.encode().decode("unicode_escape"))
    ]
    return max(holding)[1] if holding else None
