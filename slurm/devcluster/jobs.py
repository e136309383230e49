"""Find what Slurm started for jobs: step managers (slurmstepd), their tasks, and orphans of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from layout import Settings


@dataclass(frozen=True)
class Process:
    """A process of this cluster. A task knows its node; a step manager does not, but is its tasks' parent."""

    pid: int
    parent: int
    is_step_manager: bool
    node: str | None


def processes(settings: Settings, *, node: str | None = None) -> list[int]:
    """Return the pids of step managers and tasks of this cluster, or of one of its nodes."""
    found = list(scan(settings))
    tasks = [process for process in found if process.node and node in (None, process.node)]
    parents = {process.parent for process in tasks}
    managers = [
        process for process in found if process.is_step_manager and (node is None or process.pid in parents)
    ]
    return [process.pid for process in (*managers, *tasks)]


def scan(settings: Settings) -> Iterator[Process]:
    """Yield the processes whose environment Slurm made for this cluster.

    A shell in which somebody exported SLURM_CONF is not among them: Slurm told it no node.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = dict(
                pair.partition("=")[::2]
                for pair in (entry / "environ").read_text(errors="replace").split("\0")
            )
            comm, fields = (entry / "stat").read_text(errors="replace").split("(", 1)[1].rsplit(")", 1)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        node, is_step_manager = variables.get("SLURMD_NODENAME"), comm == "slurmstepd"
        if variables.get("SLURM_CONF") == str(settings.slurm_conf) and (node or is_step_manager):
            yield Process(int(entry.name), int(fields.split()[1]), is_step_manager, node)
