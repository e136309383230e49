"""What a Slurm job does: one attempt under the batch shell, and what its end asks for."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping, Sequence

from hpc.attempt.supervise import run_attempt, stop_signals
from hpc.base import shell
from hpc.base.errors import ExitCode, UserError
from hpc.base.shell import Process
from hpc.run.decision import RetryLimits
from hpc.run.ending import (
    CANCELLED,
    NODE_FAILURE,
    NOTHING,
    PREEMPTED,
    SLURM_IS_SILENT,
    TIME_LIMIT,
    Cause,
    Circumstance,
    Decision,
    Ending,
)
from hpc.run.find import find_root
from hpc.run.history import Executor, Ledger
from hpc.run.paths import RunPaths
from hpc.slurm import commands
from hpc.slurm.commands import Refusal
from hpc.slurm.parse import JobFacts
from hpc.slurm.states import explain_state

BEFORE_KILL_S = 1.5
NUM_QUESTIONS = 3
QUESTION_PAUSE_S = 1.0


class SlurmBatch:
    """The batch shell of a Slurm job; ``command`` is the srun line of its script."""

    executor = Executor.SLURM
    is_new_submit = False

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], *, array: str | None = None
    ) -> None:
        self.command = command
        self.job_id = _job_id(environ)
        self.array = array
        self.is_terminated = False
        self.num_restarts = int(environ.get("SLURM_RESTART_COUNT", "0"))
        self.nodes = commands.hostnames(environ.get("SLURM_JOB_NODELIST", ""))
        facts = commands.job_facts(self.job_id)
        self.deadline = facts.end_time if facts else None

    def start(self, environ: Mapping[str, str]) -> list[Process]:
        return [shell.start(self.command, environ=environ)]

    def forward_signal(self, number: int, processes: list[Process]) -> float:
        """Forward nothing: Slurm signals the ranks itself. After TERM it kills, so leave before that."""
        if number != signal.SIGTERM:
            return math.inf
        self.is_terminated = True
        return max(1.0, commands.kill_wait_s() - BEFORE_KILL_S)

    def circumstance(self) -> Circumstance:
        """Derive it from `scontrol show job` (slurm/README.md, "What was measured here")."""
        facts = self._facts()
        if facts is None:
            return SLURM_IS_SILENT if self.is_terminated else NOTHING
        if facts.num_restarts != self.num_restarts:
            has_lost_node = commands.any_node_down(self.nodes)
            return Circumstance(Cause.NODE_FAILURE if has_lost_node else Cause.REQUEUED, is_requeued=True)
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
            facts = commands.job_facts(self.job_id)
            if facts is not None:
                return facts
            time.sleep(QUESTION_PAUSE_S)
        return None

    def is_running(self, job_id: str) -> bool | None:
        facts = commands.job_facts(job_id)
        return None if facts is None else not explain_state(facts.state).is_over

    def continue_later(self, paths: RunPaths) -> bool:
        """Go back to the queue; where Slurm refuses, leave a successor that starts after this job.

        Returns False for a run that was cancelled meanwhile: nothing of it stays in the queue.
        """
        ledger = Ledger(paths.events)
        if ledger.history().is_cancelled:
            return False
        refusal = commands.requeue(self.job_id)
        if refusal is None:
            return True  # if it is cancelled from now on, its next start finds that
        if ledger.history().is_cancelled:
            return False
        successor = self._submit_successor(paths, refusal)
        if ledger.history().is_cancelled:
            commands.cancel([successor])
            return False
        return True

    def _submit_successor(self, paths: RunPaths, refusal: Refusal) -> str:
        successor = commands.submit_after(self.job_id, paths.job_script, find_root())
        ledger = Ledger(paths.events)
        if isinstance(successor, Refusal):
            what = f"Slurm takes neither a requeue ({refusal.text}) nor a successor ({successor.text})"
            ledger.append("warning", text=what)
            fix = "submit again from a login node: the run continues from its newest checkpoint"
            raise UserError(what, fix=fix, exit_code=ExitCode.FAILED)
        ledger.append(
            "submitted",
            job_id=successor,
            executor=Executor.SLURM,
            array=self.array,
            successor_of=self.job_id,
            refusal=refusal.text,
        )
        return successor


def allocation_end(environ: Mapping[str, str]) -> float | None:
    """Return the epoch second at which the Slurm job around this process ends; None outside of one."""
    if "SLURM_JOB_ID" not in environ:
        return None
    facts = commands.job_facts(environ["SLURM_JOB_ID"])
    return facts.end_time if facts else None


def _job_id(environ: Mapping[str, str]) -> str:
    """Return the id that names this job alone: an array's SLURM_JOB_ID may stand for all of its tasks."""
    if "SLURM_ARRAY_TASK_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ["SLURM_JOB_ID"]


def run_slurm_attempt(
    paths: RunPaths, command: Sequence[str], limits: RetryLimits, *, array: str | None
) -> ExitCode:
    """Run one attempt under Slurm's batch shell and do what its ending asks for.

    ``array`` is the array that this job is a task of.
    """
    with stop_signals() as received:  # to the very end: a requeue terminates the process that asks for it
        batch = SlurmBatch(command, os.environ, array=array)
        ending = run_attempt(paths, batch, limits, received)
        if ending.decision is Decision.CONTINUE and not batch.continue_later(paths):
            return ExitCode.INTERRUPTED
        return _exit_code(ending)


def _exit_code(ending: Ending) -> ExitCode:
    match ending.decision:
        case Decision.FINISHED:
            return ExitCode.OK
        case Decision.CONTINUE | Decision.LEAVE:
            return ExitCode.CONTINUE_LATER
        case Decision.STOP:
            return ExitCode.INTERRUPTED if ending.cause == Cause.CANCELLED else ExitCode.FAILED
