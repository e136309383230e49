"""Talk to Slurm about jobs: one question for all of them, and the few orders that a run needs."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.base import shell
from hpc.base.errors import ExitCode, UserError
from hpc.slurm import parse
from hpc.slurm.parse import JobFacts, QueuedJob
from hpc.slurm.states import explain_state

TIMEOUT_S = 30.0
RECENT_S = 1.0


@dataclass(frozen=True)
class Refusal:
    """What Slurm said when it declined an order."""

    text: str


def queue() -> tuple[QueuedJob, ...]:
    """Return the person's jobs, those just ended too, by one call; raise UserError when Slurm is silent.

    A task of an array is a job of its own, called ARRAYJOB_TASK.
    """
    asked = ("squeue", "--noheader", "--me", "--states=all", "--array", "--format", parse.SQUEUE_FORMAT)
    answer = _ask(*asked)
    if not answer.is_ok:
        raise UserError(
            f"Slurm does not answer: {answer.err.strip() or 'squeue failed'}",
            fix="ask again in a minute; `sinfo` shows whether the controller is back",
            exit_code=ExitCode.NO_SLURM,
        )
    return parse.queued_jobs(answer.out)


class RecentQueue:
    """The queue as it was a moment ago: Slurm is not asked for each of many runs."""

    def __init__(self) -> None:
        self._jobs: tuple[QueuedJob, ...] = ()
        self._asked = -math.inf

    def jobs(self) -> tuple[QueuedJob, ...]:
        if time.monotonic() - self._asked > RECENT_S:
            self._jobs = queue()
            self._asked = time.monotonic()
        return self._jobs


def job_of(queued: Sequence[QueuedJob], names: Collection[str], job_ids: Sequence[str]) -> QueuedJob | None:
    """Return the job of a run: a living one before an ended one, the newest before the older.

    ``names`` are what Slurm calls the run's jobs: ids alone come back when a cluster is set up anew.
    """
    own = {job.job_id: job for job in queued if job.name in names}
    known = [own[job_id] for job_id in reversed(job_ids) if job_id in own]
    living = [job for job in known if not explain_state(job.state).is_over]
    return next(iter(living or known), None)


def job_facts(job_id: str) -> JobFacts | None:
    """Return what `scontrol show job` knows, or None when the job is forgotten or Slurm is silent."""
    answer = _ask("scontrol", "show", "job", job_id)
    return parse.job_facts(answer.out) if answer.is_ok else None


def hostnames(node_list: str) -> tuple[str, ...]:
    """Expand ``a100-[1-4]`` as this cluster does."""
    answer = _ask("scontrol", "show", "hostnames", node_list)
    return tuple(answer.out.split()) if answer.is_ok else (node_list,)


def kill_wait_s() -> float:
    """Return the seconds between Slurm's TERM and its KILL."""
    answer = _ask("scontrol", "show", "config")
    return parse.setting_s(parse.settings(answer.out), "KillWait", 30.0)


def any_node_down(nodes: Sequence[str]) -> bool:
    answer = shell.run(
        ["sinfo", "--noheader", "--nodes", ",".join(nodes), "--format=%T"], timeout_s=TIMEOUT_S
    )
    return answer.is_ok and "down" in answer.out


def requeue(job_id: str) -> Refusal | None:
    """Send a job back to the queue.

    Slurm then terminates what runs in the job, its own scontrol too: one that was killed was not refused.
    """
    answer = _ask("scontrol", "requeue", job_id)
    is_terminated = answer.code < 0
    return None if is_terminated else _refusal(answer, "scontrol")


def start_now(job_id: str) -> Refusal | None:
    """Lift the two minutes that Slurm holds a requeued job back; only while it is PENDING(BeginTime)."""
    return _order("scontrol", "update", f"JobId={job_id}", "StartTime=now")


def cancel(job_ids: Sequence[str]) -> Refusal | None:
    return _order("scancel", *job_ids)


def submit_after(job_id: str, script: Path, root: Path) -> str | Refusal:
    """Submit ``script`` to start when ``job_id`` has ended; return the new job's id."""
    answer = shell.run(
        ["sbatch", "--parsable", f"--dependency=afterany:{job_id}", str(script)],
        timeout_s=TIMEOUT_S,
        cwd=root,
        environ=shell.without_slurm(),
    )
    return answer.out.strip().split(";")[0] if answer.is_ok else Refusal(answer.err.strip())


def _order(*command: str) -> Refusal | None:
    return _refusal(_ask(*command), command[0])


def _refusal(answer: shell.Completed, program: str) -> Refusal | None:
    return None if answer.is_ok else Refusal(answer.err.strip() or f"{program} ended with {answer.code}")


def _ask(*command: str) -> shell.Completed:
    return shell.run(command, timeout_s=TIMEOUT_S, environ=shell.without_slurm())
