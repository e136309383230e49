"""Turn plans into jobs: on Slurm by their scripts, else as local processes. Nothing is submitted twice."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from hpc.attempt import executors
from hpc.attempt.local_job import local_holder, task_id, waits_in_pool
from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.plan.array import AnyPlan, ArrayPlan
from hpc.plan.plan import Plan
from hpc.plan.provenance import provenance
from hpc.run.find import Run, open_run, refuse_older
from hpc.run.history import Executor, Ledger
from hpc.run.paths import RunPaths
from hpc.slurm import commands
from hpc.slurm.cluster import slurm_is_here
from hpc.slurm.states import explain_state

LEAVING_S = 90.0


class SubmitResult(StrEnum):
    """What a submit did."""

    SUBMITTED = "submitted"
    CONTINUED = "submitted to continue"
    ATTACHED = "is already at work"
    FINISHED = "was finished before"

    @property
    def needs_job(self) -> bool:
        return self in (SubmitResult.SUBMITTED, SubmitResult.CONTINUED)


@dataclass(frozen=True)
class Submission:
    """A run, what submitting it did, and its job."""

    paths: RunPaths
    result: SubmitResult
    job_id: str | None


def submit(plan: AnyPlan, *, packages: Sequence[str] = (), locally: bool) -> list[Submission]:
    """Submit a plan; runs that are alive or finished are left as they are.

    The versions of ``packages`` are recorded. Runs that a refused submit created are removed again.
    """
    with _locked([run.paths for run in plan.runs]):
        queue, limit = commands.RecentQueue(), time.monotonic() + LEAVING_S
        results = [_result(run.paths, queue, limit) for run in plan.runs]
        needed = [run for run, result in zip(plan.runs, results, strict=True) if result.needs_job]
        if needed:
            _send(plan, needed, packages, locally=locally)
        return [
            Submission(run.paths, result, Ledger(run.paths.events).history().job_id)
            for run, result in zip(plan.runs, results, strict=True)
        ]


def _send(plan: AnyPlan, needed: Sequence[Plan], packages: Sequence[str], *, locally: bool) -> None:
    """Write the runs and give them a job; where that fails, take back what was not there before."""
    directories = [plan.paths, *(run.paths for run in needed)]
    new = [paths for paths in directories if not paths.root.exists()]
    try:
        write_runs(needed, packages)
        if isinstance(plan, ArrayPlan):
            _send_array(plan.restricted_to([run.run_id for run in needed]), locally=locally)
        elif locally:
            run_dir = str(plan.paths.root)
            executors.start_here(["start-local", run_dir], plan.paths.logs / "job.log", plan.root)
        else:
            job_id = executors.send_to_slurm(plan.script, plan.paths, plan.root)
            Ledger(plan.paths.events).append("submitted", job_id=job_id, executor=Executor.SLURM)
    except UserError:
        for paths in new:
            if not paths.events.exists():
                shutil.rmtree(paths.root, ignore_errors=True)
        raise


def _send_array(plan: ArrayPlan, *, locally: bool) -> None:
    write_array(plan)
    if locally:
        names = [run.run_id for _, run in plan.chosen_runs]
        command = ["start-pool", str(plan.paths.root), *names]
        executors.start_here(command, plan.paths.logs / "job.log", plan.root)
        return
    job_id = executors.send_to_slurm(plan.script, plan.paths, plan.root)
    for task, run in plan.chosen_runs:
        Ledger(run.paths.events).append(
            "submitted", job_id=task_id(job_id, task), executor=Executor.SLURM, array=plan.array_id
        )


def _result(paths: RunPaths, queue: commands.RecentQueue, limit: float) -> SubmitResult:
    """Say what a submit has to do about a run; wait for one that was asked to stop."""
    while True:
        run = open_run(paths)
        refuse_older(run)
        history = run.history
        if history.finished:
            return SubmitResult.FINISHED
        if not is_alive(run, queue):
            if Ledger(paths.events).history() != history:
                continue  # an attempt began or ended between the two readings
            return SubmitResult.CONTINUED if history.attempts else SubmitResult.SUBMITTED
        if not history.is_cancelled and not history.is_over:
            return SubmitResult.ATTACHED
        if time.monotonic() > limit:
            what = f"{run.name} was asked to stop and is still leaving"
            raise UserError(what, fix="submit again in a minute", exit_code=ExitCode.REFUSED)
        time.sleep(1.0)


def write_run(plan: Plan, packages: Sequence[str] = ()) -> None:
    write_runs([plan], packages)


def write_runs(plans: Sequence[Plan], packages: Sequence[str] = ()) -> None:
    """Write what was asked for into the run directories of one workspace, whose provenance they share.

    A run's script comes last: where it is, the other files are.
    """
    shared = provenance(plans[0].root, packages) if plans else {}
    for plan in plans:
        paths = plan.paths
        make_log_directory(paths)
        with _writing(paths.root):
            records.write_text(paths.config, plan.config_text)
            records.write_json(paths.plan, plan.to_json())
            records.write_json(paths.provenance, shared)
            records.write_text(paths.job_script, plan.script)


def write_array(plan: ArrayPlan) -> None:
    """Write what an array is into its own directory, beside those of its runs."""
    make_log_directory(plan.paths)
    with _writing(plan.paths.root):
        records.write_json(plan.paths.plan, plan.to_json())
        records.write_text(plan.paths.job_script, plan.script)


def make_log_directory(paths: RunPaths) -> None:
    with _writing(paths.logs):
        paths.logs.mkdir(parents=True, exist_ok=True)


def is_alive(run: Run, queue: commands.RecentQueue) -> bool:
    """Say whether a job of the run waits or works."""
    if not run.history.job_ids:
        return False
    if run.history.executor != Executor.SLURM or not slurm_is_here():
        return local_holder(run.paths) is not None or (waits_in_pool(run) and not run.history.is_cancelled)
    job = commands.job_of(queue.jobs(), run.job_names, run.history.job_ids)
    return job is not None and not explain_state(job.state).is_over


@contextlib.contextmanager
def _locked(all_paths: Sequence[RunPaths]) -> Iterator[None]:
    """Let one submit of a run work at a time; the system releases the locks of one that is killed."""
    with contextlib.ExitStack() as locks:
        for paths in all_paths:
            locks.enter_context(_lock(paths.root.with_name(f".{paths.run_id}.submitting")))
        yield


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            what, fix = "another submit of this run is under way", "wait for it"
            raise UserError(what, where=str(path), fix=fix, exit_code=ExitCode.REFUSED) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def _writing(directory: Path) -> contextlib.AbstractContextManager[None]:
    return records.writing(
        directory,
        what="the directory cannot be written",
        fix="free some space or work in a directory that you may write to",
    )
