"""Turn a plan into a job through submitit: on Slurm with the plan's own script, else as local processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from hpc import records, runs, scheduler, shell
from hpc.cluster import slurm_is_here
from hpc.errors import ExitCode, UserError
from hpc.job import GPUS, LocalRun, local_holder
from hpc.ledger import History, Ledger
from hpc.paths import RunPaths
from hpc.plan import Plan
from hpc.states import explain_state
from hpc.supervise import RetryLimits

TEN_YEARS_MIN = 10 * 365 * 24 * 60
SUBMITTING_S = 120.0
LEAVING_S = 90.0


class Outcome(StrEnum):
    """What a submit did."""

    SUBMITTED = "submitted"
    CONTINUED = "submitted to continue"
    ATTACHED = "is already at work"
    FINISHED = "was finished before"


@dataclass(frozen=True)
class Submission:
    """A run, what submitting it did, and the job that carries it."""

    paths: RunPaths
    outcome: Outcome
    job_id: str | None


def submit(plan: Plan, *, locally: bool) -> Submission:
    """Submit a plan; a run that is alive or finished is left as it is.

    A run that a refused submit created is removed again.
    """
    paths = plan.paths
    with _alone(paths):
        _await_leaving(paths)
        history = Ledger(paths.events).history()
        if history.finished:
            return Submission(paths, Outcome.FINISHED, history.job_id)
        if is_alive(paths, history):
            return Submission(paths, Outcome.ATTACHED, history.job_id)
        is_new = not paths.root.exists()
        try:
            write_run(plan)
            job_id = _start_here(plan) if locally else _start_in_slurm(plan)
        except UserError:
            if is_new and not paths.events.exists():
                shutil.rmtree(paths.root, ignore_errors=True)
            raise
    return Submission(paths, Outcome.CONTINUED if history.attempts else Outcome.SUBMITTED, job_id)


def _await_leaving(paths: RunPaths) -> None:
    """Let a run that was told to end do so, before it is submitted again."""
    limit = time.monotonic() + LEAVING_S
    while True:
        history = Ledger(paths.events).history()
        is_leaving = (history.is_cancelled or history.is_over) and is_alive(paths, history)
        if history.finished or not is_leaving:
            return
        if time.monotonic() > limit:
            what = f"{paths.case}/{paths.run_id} was told to end and is still leaving"
            raise UserError(what, fix="submit again in a minute", exit_code=ExitCode.REFUSED)
        time.sleep(1.0)


def write_run(plan: Plan) -> None:
    """Write what was asked for into the run directory."""
    paths = plan.paths
    make_log_directory(paths)
    with _writing(paths.root):
        records.write_text(paths.config, plan.config_text)
        records.write_json(paths.plan, plan.to_json())
        records.write_json(paths.provenance, runs.provenance(plan.root))
        records.write_text(paths.job_script, plan.script)


def make_log_directory(paths: RunPaths) -> None:
    with _writing(paths.logs):
        paths.logs.mkdir(parents=True, exist_ok=True)


def is_alive(paths: RunPaths, history: History) -> bool:
    """Say whether a job of the run waits or works."""
    if history.executor != "slurm" or not slurm_is_here():
        return local_holder(paths) is not None
    job = scheduler.job_of(scheduler.queue(), paths, history.job_ids)
    return job is not None and not explain_state(job.state).is_over


def retry_limits(retry: Mapping[str, Any]) -> RetryLimits:
    """Read the limits from the ``retry`` section of a plan."""
    return RetryLimits(retry["max_stalled_attempts"], retry["max_attempts"])


def rank_command(plan: Plan) -> tuple[str, ...]:
    """Return how one local rank is started."""
    run_dir = plan.paths.root.relative_to(plan.root)
    return (sys.executable, "-u", "-m", "stockpred", "train", str(run_dir))


def _start_in_slurm(plan: Plan) -> str:
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    class ScriptExecutor(SlurmExecutor):
        """A submitit executor whose sbatch text is the plan's."""

        job_class = SlurmExecutor.job_class

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            return plan.script

    with _clean_environment(plan.root):
        try:
            job: Any = ScriptExecutor(folder=plan.paths.submitit).submit(_names_the_run, str(plan.paths.root))
        except (FailedJobError, FailedSubmissionError) as error:
            raise UserError(
                f"Slurm refuses the job: {_last_line(str(error))}",
                where=str(plan.paths.job_script),
                fix="see what would be sent with --dry-run; `sinfo` shows the partitions",
                exit_code=ExitCode.REFUSED,
            ) from None
    Ledger(plan.paths.events).append("submitted", job_id=job.job_id, executor="slurm")
    return str(job.job_id)


def _start_here(plan: Plan) -> str:
    """Start the local executor in a session of its own: closing the terminal does not end the run."""
    starter = [sys.executable, "-m", "hpc", "start-local", *plan.recipe]
    log = plan.paths.logs / "job.log"
    process = shell.start(starter, environ=shell.without_slurm(), cwd=plan.root, log=log, own_session=True)
    if process.wait() != 0:
        raise UserError("the local processes could not be started", where=str(log), exit_code=ExitCode.FAILED)
    job_id = Ledger(plan.paths.events).history().job_id
    assert job_id is not None
    return job_id


def start_local(plan: Plan) -> str:
    """Hand the run to submitit's local executor; return the id of its controller process."""
    from submitit.local.local import LocalExecutor

    executor = LocalExecutor(folder=plan.paths.submitit)
    executor.update_parameters(timeout_min=TEN_YEARS_MIN, gpus_per_node=plan.resources.gpus)
    work = LocalRun(
        run_dir=plan.paths.root,
        root=plan.root,
        command=rank_command(plan),
        num_tasks=plan.num_tasks,
        limit_s=plan.resources.limit_s,
        limits=retry_limits(plan.to_json()["retry"]),
        gpus=os.environ.get(GPUS),
    )
    job: Any = executor.submit(work)
    Ledger(plan.paths.events).append("submitted", job_id=job.job_id, executor="local")
    return str(job.job_id)


def _names_the_run(run_dir: str) -> str:
    """What submitit's pickle carries to Slurm: the run directory's path, for whoever looks into it."""
    return run_dir


@contextlib.contextmanager
def _clean_environment(root: Path) -> Iterator[None]:
    """Submit from the workspace and without what an enclosing job left in the environment."""
    before = dict(os.environ)
    with contextlib.chdir(root):
        os.environ.clear()
        os.environ.update(shell.without_slurm(before))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def _alone(paths: RunPaths) -> Iterator[None]:
    """Let one submit of a run work at a time; a mark that a killed submit left grows stale."""
    mark = paths.root.with_name(f".{paths.run_id}.submitting")
    with _writing(mark.parent):
        mark.parent.mkdir(parents=True, exist_ok=True)
        records.clear_if_older(mark, SUBMITTING_S)
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            raise UserError(
                "another submit of this run is under way",
                where=str(mark),
                fix="wait for it; a mark that a killed submit left is ignored after two minutes",
                exit_code=ExitCode.REFUSED,
            ) from None
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Turn what the file system refuses into one clear error."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the directory cannot be written: {error.strerror}",
            where=str(directory),
            fix="free some space or work in a directory that you may write to",
        ) from None


def _last_line(text: str) -> str:
    """Return the line of sbatch's complaint that says why."""
    said = [line.strip() for line in text.splitlines() if "error:" in line]
    return (said or text.strip().splitlines() or [""])[-1]
