"""Slurm's text turned into values. Pure: nothing here asks Slurm.

Texts come from ``sinfo -o SINFO_FORMAT``, ``squeue -o SQUEUE_FORMAT`` and ``scontrol show``; JSON output is
left alone because its schema changed in 22.05, 23.11 and 24.05. Times are epoch seconds, limits seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

SINFO_FORMAT = "%P|%c|%m|%G|%D|%T"
SQUEUE_FORMAT = "%i|%T|%r|%V|%j"
"""The name comes last because it alone may hold a bar."""

UNLIMITED = ("UNLIMITED", "INFINITE", "-1")
_NOTHING = ("", "N/A", "NONE", "Unknown", "None", "(null)", "NOT_SET", "INVALID")
_LIMIT = re.compile(r"(?:(?P<days>\d+)-(?P<after>\d+(?::\d+){0,2})?|(?P<clock>\d+(?::\d+){0,2}))")
_PAIR = re.compile(r"(?:^|\s)([A-Za-z][A-Za-z0-9_/:.&]*)=")
_WHOLE_LINE = (
    "JobName",
    "Command",
    "WorkDir",
    "Comment",
    "AdminComment",
    "SystemComment",
    "StdErr",
    "StdIn",
    "StdOut",
)
"""Fields whose value is free text up to the end of the line."""


@dataclass(frozen=True)
class Gpus:
    """``count`` GPUs of one type on one node; the type is None where the site does not name it."""

    type: str | None
    count: int


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of one partition that look alike: one line of sinfo. CPUs, memory and GPUs are per node."""

    partition: str
    num_cpus: int
    memory_mb: int
    gpus: tuple[Gpus, ...]
    num_nodes: int
    state: str


@dataclass(frozen=True)
class QueuedJob:
    """One line of squeue."""

    job_id: str
    state: str
    reason: str
    submit_time: float | None
    name: str


@dataclass(frozen=True)
class JobFacts:
    """What ``scontrol show job`` says; ``fields`` keeps all of it as text."""

    job_id: str
    state: str
    reason: str
    num_restarts: int
    may_requeue: bool
    end_time: float | None
    fields: Mapping[str, str]


@dataclass(frozen=True)
class PartitionFacts:
    """What ``scontrol show partition`` says."""

    name: str
    is_default: bool
    is_up: bool
    max_limit_s: float
    max_nodes: float


def parse_limit(text: str) -> float:
    """Return seconds for any spelling that ``sbatch --time`` takes; infinite for no limit.

    Minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes and
    days-hours:minutes:seconds (sbatch manual, --time). Raises ValueError for anything else.
    """
    if text.upper() in UNLIMITED:
        return math.inf
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time limit: write minutes, 1:30:00 or 7-00:00:00")
    if match["days"] is not None:
        hours, minutes, seconds = _padded((match["after"] or "0").split(":"))
        return int(match["days"]) * 86400 + hours * 3600 + minutes * 60 + seconds
    parts = match["clock"].split(":")
    if len(parts) == 3:
        hours, minutes, seconds = _padded(parts)
        return hours * 3600 + minutes * 60 + seconds
    minutes, seconds, _ = _padded(parts)
    return minutes * 60 + seconds


def parse_time(text: str) -> float | None:
    """Return epoch seconds of Slurm's local ``2026-11-21T02:12:28``, None where it says there is none."""
    if text in _NOTHING:
        return None
    return datetime.fromisoformat(text).timestamp()


def parse_gpus(text: str) -> tuple[Gpus, ...]:
    """Read the GPUs out of a GRES list such as ``gpu:a100:8(S:0-1),gpu:v100:2``."""
    found = []
    for item in re.sub(r"\([^)]*\)", "", text).split(","):
        name, *rest = item.split(":")
        if name == "gpu":
            words = [word for word in rest if word != "no_consume"]
            count = int(words.pop()) if words and words[-1].isdigit() else 1
            found.append(Gpus(words[0] if words else None, count))
    return tuple(found)


def node_groups(text: str) -> tuple[NodeGroup, ...]:
    """Read ``sinfo -h -e -o SINFO_FORMAT``."""
    return tuple(_node_group(line) for line in _lines(text))


def queued_jobs(text: str) -> tuple[QueuedJob, ...]:
    """Read ``squeue -h -o SQUEUE_FORMAT``."""
    return tuple(_queued_job(line) for line in _lines(text))


def job_facts(text: str) -> JobFacts | None:
    """Read ``scontrol show job``; return the first job, None where there is none."""
    return next(iter(all_job_facts(text)), None)


def all_job_facts(text: str) -> tuple[JobFacts, ...]:
    """Read ``scontrol show job``, one job or many."""
    return tuple(_job_facts(fields) for fields in _records(text, "JobId"))


def partition_facts(text: str) -> tuple[PartitionFacts, ...]:
    """Read ``scontrol show partition``."""
    return tuple(_one_partition(fields) for fields in _records(text, "PartitionName"))


def settings(text: str) -> dict[str, str]:
    """Read ``scontrol show config`` into its keys and values, as text."""
    pairs = (line.split("=", 1) for line in text.splitlines() if re.match(r"\w+\s*= ?", line))
    return {key.strip(): value.strip() for key, value in pairs}


def setting_s(config: Mapping[str, str], key: str, otherwise: float) -> float:
    """Return a setting such as ``KillWait = 30 sec`` in seconds."""
    match = re.match(r"(\d+) sec", config.get(key, ""))
    return float(match[1]) if match else otherwise


def _padded(parts: list[str]) -> tuple[int, int, int]:
    first, second, third = [int(part) for part in parts] + [0] * (3 - len(parts))
    return first, second, third


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _node_group(line: str) -> NodeGroup:
    partition, cpus, memory, gres, count, state = line.split("|")
    return NodeGroup(
        partition=partition.rstrip("*"),
        num_cpus=_whole(cpus),
        memory_mb=_whole(memory),
        gpus=parse_gpus(gres),
        num_nodes=_whole(count),
        state=state,
    )


def _queued_job(line: str) -> QueuedJob:
    job_id, state, reason, submit, name = line.split("|", 4)
    return QueuedJob(job_id, state, reason, submit_time=parse_time(submit), name=name)


def _job_facts(fields: Mapping[str, str]) -> JobFacts:
    return JobFacts(
        job_id=fields["JobId"],
        state=fields["JobState"],
        reason=fields.get("Reason", "None"),
        num_restarts=int(fields.get("Restarts", "0")),
        may_requeue=fields.get("Requeue") == "1",
        end_time=parse_time(fields.get("EndTime", "")),
        fields=fields,
    )


def _one_partition(fields: Mapping[str, str]) -> PartitionFacts:
    max_nodes = fields.get("MaxNodes", "UNLIMITED")
    return PartitionFacts(
        name=fields["PartitionName"],
        is_default=fields.get("Default") == "YES",
        is_up=fields.get("State", "UP") == "UP",
        max_limit_s=_limit_or_none(fields.get("MaxTime", "")) or math.inf,
        max_nodes=math.inf if max_nodes in UNLIMITED else _whole(max_nodes),
    )


def _records(text: str, first_key: str) -> Iterable[Mapping[str, str]]:
    """Yield the fields of each record; the first value of a key wins over text that looks like a second."""
    fields: dict[str, str] = {}
    last_key = ""
    one_line = re.search("^   ", text, re.MULTILINE) is None
    for line in text.splitlines():
        if line.startswith(f"{first_key}="):
            if fields:
                yield fields
            fields = {}
        elif not line.startswith("   "):
            if last_key in _WHOLE_LINE and line:
                fields[last_key] += f"\n{line}"
            continue
        for key, value in _pairs(line, one_line=one_line):
            fields.setdefault(key, value)
            last_key = key
    if fields:
        yield fields


def _pairs(line: str, *, one_line: bool) -> Iterable[tuple[str, str]]:
    matches = list(_PAIR.finditer(line))
    for match, following in zip_longest(matches, matches[1:]):
        if match[1] in _WHOLE_LINE and not one_line:
            yield match[1], line[match.end() :]
            return
        yield match[1], line[match.end() : following.start() if following else None].strip()


def _limit_or_none(text: str) -> float | None:
    try:
        return parse_limit(text)
    except ValueError:
        return None


def _whole(text: str) -> int:
    """Return the number at the start of ``128``, ``512000+`` or ``1-1``; 0 where there is none."""
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0
