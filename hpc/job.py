"""What a job does: on Slurm one attempt under the batch shell, on this machine all attempts of a run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc import lease, runs, scheduler, shell
from hpc.errors import ExitCode, UserError
from hpc.ledger import Ledger
from hpc.paths import RunPaths
from hpc.scheduler import Refusal
from hpc.shell import Process
from hpc.states import explain_state
from hpc.supervise import RetryLimits, carry_attempt
from hpc.verdict import Circumstance, Decision, Verdict


class SlurmBatch:
    """The batch shell of a Slurm job; ``command`` is the srun line of its script."""

    name = "slurm"

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.command = command
        self.job_id = environ["SLURM_JOB_ID"]
        self.num_restarts = int(environ.get("SLURM_RESTART_COUNT", "0"))
        self.nodes = scheduler.hostnames(environ.get("SLURM_JOB_NODELIST", ""))
        facts = scheduler.facts(self.job_id)
        self.deadline = facts.end_time if facts else None

    def start(self, environ: Mapping[str, str]) -> list[Process]:
        return [shell.start(self.command, environ=environ)]

    def pass_on(self, number: int, processes: list[Process]) -> None:
        """Do nothing: Slurm signals the ranks itself, and they find the wish file."""

    def circumstance(self) -> Circumstance:
        """Read it off `scontrol show job` (measured on 22.05: slurm/README.md, "What a job sees")."""
        facts = scheduler.facts(self.job_id)
        if facts is None:
            return Circumstance.NOTHING
        if facts.num_restarts != self.num_restarts:
            has_lost_node = scheduler.any_node_down(self.nodes)
            return Circumstance.NODE_FAILURE if has_lost_node else Circumstance.REQUEUED
        is_preempted = facts.fields.get("PreemptTime", "None") != "None"
        if facts.state == "RUNNING":
            return Circumstance.PREEMPTED if is_preempted else Circumstance.NOTHING
        if facts.reason == "TimeLimit":
            return Circumstance.TIME_LIMIT
        # A job that may not requeue is not put back at the end of its grace; every other one has been by now.
        return Circumstance.PREEMPTED if is_preempted and not facts.may_requeue else Circumstance.CANCELLED

    def is_running(self, job_id: str) -> bool | None:
        facts = scheduler.facts(job_id)
        return None if facts is None else not explain_state(facts.state).is_over

    def carry_on(self, paths: RunPaths) -> None:
        """Go back to the queue; where Slurm refuses, leave a successor that starts after this job."""
        refusal = scheduler.requeue(self.job_id)
        if refusal is None:
            return
        successor = scheduler.submit_after(self.job_id, paths.job_script, runs.find_root())
        ledger = Ledger(paths.events)
        if isinstance(successor, Refusal):
            ledger.append(
                "warning", text=f"neither requeue ({refusal.text}) nor successor ({successor.text})"
            )
            raise UserError(
                f"Slurm refuses to requeue job {self.job_id} ({refusal.text}) and to take a successor"
                f" ({successor.text})",
                fix="submit again from a login node: the run continues from its newest checkpoint",
                exit_code=ExitCode.FAILED,
            )
        ledger.append(
            "submitted", job_id=successor, executor="slurm", successor_of=self.job_id, refusal=refusal.text
        )


class LocalMachine:
    """Ranks as processes of this machine; the allocation ends ``limit_s`` after each attempt's start."""

    name = "local"
    nodes: tuple[str, ...] = ()

    def __init__(
        self, paths: RunPaths, *, job_id: str, num_tasks: int, command: Sequence[str], limit_s: float
    ) -> None:
        self.paths = paths
        self.job_id = job_id
        self.num_tasks = num_tasks
        self.command = command
        self.is_told_to_end = False
        self.deadline = None if limit_s == float("inf") else time.time() + limit_s

    def start(self, environ: Mapping[str, str]) -> list[Process]:
        self.paths.logs.mkdir(parents=True, exist_ok=True)
        num_threads = max(1, len(os.sched_getaffinity(0)) // self.num_tasks)
        shared = {
            "OMP_NUM_THREADS": str(num_threads),
            "PYTHONUNBUFFERED": "1",
            **shell.without_slurm(environ),
        }
        return [
            shell.start(
                self.command,
                environ={**shared, **self._place(rank)},
                log=self.paths.rank_log(rank),
            )
            for rank in range(self.num_tasks)
        ]

    def pass_on(self, number: int, processes: list[Process]) -> None:
        """Forward the wish; TERM and INT end the run here, USR2 only this attempt, as a time limit does."""
        self.is_told_to_end = number != signal.SIGUSR2
        for process in processes:
            if process.poll() is None:
                process.terminate()

    def circumstance(self) -> Circumstance:
        return Circumstance.CANCELLED if self.is_told_to_end else Circumstance.NOTHING

    def is_running(self, job_id: str) -> bool | None:
        return None

    def _place(self, rank: int) -> dict[str, str]:
        world = str(self.num_tasks)
        place = {"RANK": str(rank), "WORLD_SIZE": world}
        return {**place, "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": world}


@dataclass(frozen=True)
class LocalRun:
    """What submitit carries on this machine: the way to the run directory and how to start a rank."""

    run_dir: Path
    root: Path
    command: tuple[str, ...]
    num_tasks: int
    limit_s: float
    limits: RetryLimits

    def __call__(self) -> str:
        """Attempt after attempt until the run is finished or stopped; return the last decision."""
        os.chdir(self.root)
        paths = RunPaths(self.run_dir)
        while True:
            machine = LocalMachine(
                paths,
                job_id=os.environ.get("SUBMITIT_LOCAL_JOB_ID", str(os.getpid())),
                num_tasks=self.num_tasks,
                command=self.command,
                limit_s=self.limit_s,
            )
            verdict = carry_attempt(paths, machine, self.limits)
            if verdict.decision is not Decision.CONTINUE:
                return verdict.decision.value


def run_slurm_attempt(paths: RunPaths, command: Sequence[str], limits: RetryLimits) -> ExitCode:
    """Carry one attempt under Slurm's batch shell and do what its verdict asks for."""
    batch = SlurmBatch(command, os.environ)
    verdict = carry_attempt(paths, batch, limits)
    if verdict.decision is Decision.CONTINUE:
        batch.carry_on(paths)
    return _exit_code(verdict)


def _exit_code(verdict: Verdict) -> ExitCode:
    match verdict.decision:
        case Decision.FINISHED:
            return ExitCode.OK
        case Decision.CONTINUE | Decision.LEAVE:
            return ExitCode.CONTINUE_LATER
        case Decision.STOP:
            return ExitCode.INTERRUPTED if verdict.cause == "cancelled" else ExitCode.FAILED


def holder_pid(paths: RunPaths) -> int | None:
    """Return the process that supervises a local run on this machine, if it lives."""
    holder = lease.read(paths.lease)
    is_here = holder is not None and lease.is_alive(paths.lease, holder, lambda _: None)
    return holder.pid if holder and is_here else None
