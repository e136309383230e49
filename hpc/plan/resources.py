"""The sections of a configuration that belong to the launcher: resources, retry, array."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from hpc.slurm import parse

EARLY_SIGNAL_S = 60.0
"""Slurm may send --signal this much before its time (sbatch manual)."""

OWNED_OPTIONS = {
    "job-name": "the run's name",
    "partition": "resources.partition",
    "time": "resources.limit",
    "nodes": "resources.nodes",
    "ntasks": "resources.nodes and resources.gpus",
    "ntasks-per-node": "resources.gpus",
    "cpus-per-task": "resources.cpus_per_gpu",
    "gres": "resources.gpus and resources.gpu_type",
    "gpus-per-node": "resources.gpus and resources.gpu_type",
    "account": "resources.account",
    "qos": "resources.qos",
    "constraint": "resources.constraint",
    "exclude": "resources.exclude",
    "requeue": "resources.requeue",
    "no-requeue": "resources.requeue",
    "signal": "resources.signal_lead_s",
    "output": "runs/CASE/RUN_ID/logs",
    "error": "runs/CASE/RUN_ID/logs",
    "open-mode": "runs/CASE/RUN_ID/logs",
    "chdir": "the workspace",
    "array": "array.key and array.values",
}
"""Options of sbatch that ``resources.extra`` may not set, and what sets them."""


def _limit(value: str) -> str:
    if parse.parse_limit(value) <= 0:
        raise ValueError("a limit of 0 would mean none; write UNLIMITED for that")
    return value


def _word(value: str) -> str:
    if not re.fullmatch(r"[^\s'\"\\#]+", value):
        raise ValueError(f"{value!r} may hold no blanks, quotes, backslashes or #")
    return value


Limit = Annotated[str, AfterValidator(_limit)]
Word = Annotated[str, AfterValidator(_word)]
PositiveInt = Annotated[int, Field(gt=0)]
Switch = Annotated[str | None, BeforeValidator(lambda value: None if value in ("", "true") else value)]


class ConfigSection(BaseModel):
    """A section of a configuration that the launcher reads: frozen, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(ConfigSection):
    """What one job asks Slurm for; ``gpus`` per node, and one task for each GPU."""

    partition: Word | None
    limit: Limit
    nodes: PositiveInt
    gpus: PositiveInt
    gpu_type: Word | None
    gpu_request: Literal["gres", "gpus_per_node", "none"]
    cpus_per_gpu: PositiveInt
    memory_gb_per_gpu: PositiveInt
    account: Word | None
    qos: Word | None
    constraint: Word | None
    exclude: Word | None
    requeue: bool
    signal_lead_s: Annotated[int, Field(ge=0, le=65535)]
    setup: tuple[str, ...]
    extra: Mapping[str, Switch]

    @field_validator("extra")
    @classmethod
    def _sets_only_free_options(cls, extra: Mapping[str, str | None]) -> Mapping[str, str | None]:
        named = {name.replace("_", "-"): value for name, value in extra.items()}
        for name, value in named.items():
            if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
                raise ValueError(f"{name!r} is not an option of sbatch")
            if name in OWNED_OPTIONS:
                raise ValueError(f"--{name} comes from {OWNED_OPTIONS[name]}")
            if value is not None and not re.fullmatch(r"[^'\x00-\x1f\x7f]+", value):
                raise ValueError(f"the value of {name} may hold no single quotes and no line breaks")
        return named

    @property
    def limit_s(self) -> float:
        return parse.parse_limit(self.limit)

    @property
    def gets_early_signal(self) -> bool:
        """Whether Slurm is asked for a signal before the limit: not where it could come at the very start."""
        return 0 < self.signal_lead_s < self.limit_s - EARLY_SIGNAL_S

    @property
    def num_tasks(self) -> int:
        return self.nodes * self.gpus

    @property
    def num_cpus_per_node(self) -> int:
        return self.gpus * self.cpus_per_gpu

    @property
    def memory_gb_per_node(self) -> int:
        return self.gpus * self.memory_gb_per_gpu


class Retry(ConfigSection):
    """When a run that was interrupted is started again."""

    max_stalled_attempts: PositiveInt
    lift_hold: bool
    max_attempts: PositiveInt | None


class Array(ConfigSection):
    """Several runs of a case that differ in the setting ``key``; a single run where there is none.

    Without ``values`` the training program says which there are. At most ``at_once`` of them run at a time.
    """

    key: str | None
    values: tuple[str, ...] | None
    at_once: PositiveInt | None
