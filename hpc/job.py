"""What a job does: on Slurm one attempt under the batch shell, on this machine all attempts of a run."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc import lease, runs, scheduler, shell
from hpc.errors import ExitCode, UserError
from hpc.lease import Lease
from hpc.ledger import Ledger
from hpc.parse import JobFacts
from hpc.paths import RunPaths
from hpc.scheduler import Refusal
from hpc.shell import Process
from hpc.states import explain_state
from hpc.supervise import RetryLimits, carry_attempt
from hpc.verdict import (
    CANCELLED,
    NODE_FAILURE,
    NOTHING,
    PREEMPTED,
    TIME_LIMIT,
    Circumstance,
    Decision,
    Verdict,
)

BEFORE_KILL_S = 1.5
NUM_QUESTIONS = 3
QUESTION_PAUSE_S = 1.0
GPUS = "CUDA_VISIBLE_DEVICES"


class SlurmBatch:
    """The batch shell of a Slurm job; ``command`` is the srun line of its script."""

    name = "slurm"

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.command = command
        self.job_id = environ["SLURM_JOB_ID"]
        self.is_terminated = False
        self.num_restarts = int(environ.get("SLURM_RESTART_COUNT", "0"))
        self.nodes = scheduler.hostnames(environ.get("SLURM_JOB_NODELIST", ""))
        facts = scheduler.facts(self.job_id)
        self.deadline = facts.end_time if facts else None

    def start(self, environ: Mapping[str, str]) -> list[Process]:
        return [shell.start(self.command, environ=environ)]

    def pass_on(self, number: int, processes: list[Process]) -> float:
        """Leave it to Slurm, which signals the ranks itself; after TERM it kills, so judge before that."""
        self.is_terminated = number == signal.SIGTERM
        return max(1.0, scheduler.kill_wait_s() - BEFORE_KILL_S) if self.is_terminated else math.inf

    def circumstance(self) -> Circumstance:
        """Read it off `scontrol show job` (measured on 22.05: slurm/README.md, "What a job sees")."""
        facts = self._facts()
        if facts is None:
            # A cancelled job must not come back because Slurm was too busy to say that it was cancelled.
            return Circumstance("Slurm did not answer", is_requeued=True) if self.is_terminated else NOTHING
        if facts.num_restarts != self.num_restarts:
            has_lost_node = scheduler.any_node_down(self.nodes)
            return Circumstance("node failure" if has_lost_node else "requeued by Slurm", is_requeued=True)
        is_preempted = facts.fields.get("PreemptTime", "None") != "None"
        if facts.state == "RUNNING":
            return PREEMPTED if is_preempted else NOTHING
        if facts.reason == "TimeLimit":
            return TIME_LIMIT
        if facts.state == "NODE_FAIL" or "Node" in facts.reason:
            return NODE_FAILURE
        # A job that may not requeue is not put back at the end of its grace; every other one has been by now.
        return PREEMPTED if is_preempted and not facts.may_requeue else CANCELLED

    def _facts(self) -> JobFacts | None:
        for _ in range(NUM_QUESTIONS):
            facts = scheduler.facts(self.job_id)
            if facts is not None:
                return facts
            time.sleep(QUESTION_PAUSE_S)
        return None

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
            what = f"Slurm takes neither a requeue ({refusal.text}) nor a successor ({successor.text})"
            ledger.append("warning", text=what)
            fix = "submit again from a login node: the run continues from its newest checkpoint"
            raise UserError(what, fix=fix, exit_code=ExitCode.FAILED)
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

    def pass_on(self, number: int, processes: list[Process]) -> float:
        """Forward the wish; TERM and INT end the run here, USR2 only this attempt, as a time limit does."""
        self.is_told_to_end = number != signal.SIGUSR2
        for process in processes:
            if process.poll() is None:
                process.terminate()
        return math.inf

    def circumstance(self) -> Circumstance:
        return CANCELLED if self.is_told_to_end else NOTHING

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
    gpus: str | None
    """The GPUs that the person chose by CUDA_VISIBLE_DEVICES; submitit puts its own choice in their place."""

    def __call__(self) -> str:
        """Attempt after attempt until the run is finished or stopped; return the last decision."""
        os.chdir(self.root)
        os.environ.pop(GPUS, None)
        if self.gpus is not None:
            os.environ[GPUS] = self.gpus
        paths = RunPaths(self.run_dir)
        try:
            while (verdict := self._attempt(paths)).decision is Decision.CONTINUE:
                pass
        except UserError as error:
            paths.logs.mkdir(parents=True, exist_ok=True)
            with (paths.logs / "job.log").open("a") as log:
                log.write(f"error: {error}\n")
            raise
        return verdict.decision.value

    def _attempt(self, paths: RunPaths) -> Verdict:
        machine = LocalMachine(
            paths,
            job_id=os.environ.get("SUBMITIT_LOCAL_JOB_ID", str(os.getpid())),
            num_tasks=self.num_tasks,
            command=self.command,
            limit_s=self.limit_s,
        )
        return carry_attempt(paths, machine, self.limits)


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


def local_holder(paths: RunPaths) -> Lease | None:
    """Return who supervises a local run, if it lives."""
    holder = lease.read(paths.lease)
    is_alive = holder is not None and lease.is_alive(paths.lease, holder, lambda _: None)
    return holder if is_alive else None
