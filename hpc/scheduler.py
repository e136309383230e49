"""Talk to Slurm about jobs: one question for all of them, and the few orders that a run needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc import parse, shell
from hpc.errors import ExitCode, UserError
from hpc.parse import JobFacts, QueuedJob

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Refusal:
    """What Slurm said when it declined an order."""

    text: str


def queue(job_ids: Sequence[str]) -> dict[str, QueuedJob]:
    """Return those of the jobs that are in the queue, by one call; raise UserError when Slurm is silent."""
    if not job_ids:
        return {}
    command = ["squeue", "--noheader", "--me", "--states=all", "--format", parse.SQUEUE_FORMAT]
    answer = shell.run(command, timeout_s=TIMEOUT_S)
    if not answer.is_ok:
        raise UserError(
            f"Slurm does not answer: {answer.err.strip() or 'squeue failed'}",
            fix="ask again in a minute; `sinfo` shows whether the controller is back",
            exit_code=ExitCode.NO_SLURM,
        )
    wanted = set(job_ids)
    return {job.job_id: job for job in parse.queued_jobs(answer.out) if job.job_id in wanted}


def facts(job_id: str) -> JobFacts | None:
    """Return what `scontrol show job` knows, or None when the job is forgotten or Slurm is silent."""
    answer = shell.run(["scontrol", "show", "job", job_id], timeout_s=TIMEOUT_S)
    return parse.job_facts(answer.out) if answer.is_ok else None


def hostnames(node_list: str) -> tuple[str, ...]:
    """Expand ``a100-[1-4]`` as this cluster does."""
    answer = shell.run(["scontrol", "show", "hostnames", node_list], timeout_s=TIMEOUT_S)
    return tuple(answer.out.split()) if answer.is_ok else (node_list,)


def any_node_down(nodes: Sequence[str]) -> bool:
    answer = shell.run(
        ["sinfo", "--noheader", "--nodes", ",".join(nodes), "--format=%T"], timeout_s=TIMEOUT_S
    )
    return answer.is_ok and "down" in answer.out


def requeue(job_id: str) -> Refusal | None:
    return _order("scontrol", "requeue", job_id)


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
    answer = shell.run(list(command), timeout_s=TIMEOUT_S, environ=shell.without_slurm())
    return None if answer.is_ok else Refusal(answer.err.strip() or f"{command[0]} ended with {answer.code}")
