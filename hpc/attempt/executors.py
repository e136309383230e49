"""Jobs through submitit: a script of ours handed to Slurm, or a controller on this machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hpc.attempt.local_job import GPUS, LocalPool, LocalRun, places_of, rank_command, task_id
from hpc.base import records, shell
from hpc.base.errors import ExitCode, UserError
from hpc.run.history import Executor, Ledger
from hpc.run.paths import RunPaths

TEN_YEARS_MIN = 10 * 365 * 24 * 60


def send_to_slurm(script: str, paths: RunPaths, root: Path) -> str:
    """Hand ``script`` to sbatch; return the job's id. Submitit keeps its files in ``paths``."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    class ScriptExecutor(SlurmExecutor):
        """A submitit executor whose sbatch text is ours."""

        job_class = SlurmExecutor.job_class

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            return script

    with _clean_environment(root):
        try:
            job: Any = ScriptExecutor(folder=paths.submitit).submit(_names_the_run, str(paths.root))
        except (FailedJobError, FailedSubmissionError) as error:
            raise UserError(
                f"Slurm refuses the job: {_last_line(str(error))}",
                where=str(paths.job_script),
                fix="see what would be sent with --dry-run; `sinfo` shows the partitions",
                exit_code=ExitCode.REFUSED,
            ) from None
    return str(job.job_id)


def start_here(command: Sequence[str], log: Path, root: Path) -> None:
    """Start a controller by a command of ours, in a session of its own: it outlives the terminal."""
    starter = [sys.executable, "-m", "hpc", *command]
    process = shell.start(starter, environ=shell.without_slurm(), cwd=root, log=log, own_session=True)
    if process.wait() != 0:
        raise UserError(
            "the local processes could not be started",
            where=str(log),
            fix="read this log: its end says why",
            exit_code=ExitCode.FAILED,
        )


def start_run(paths: RunPaths, root: Path) -> None:
    """Hand a run to submitit's local executor; its ledger tells the id of the controller."""
    work = LocalRun(paths.root, root, rank_command(paths, root), os.environ.get(GPUS))
    job_id = _start_controller(work, paths, num_gpus=_num_gpus(paths))
    Ledger(paths.events).append("submitted", job_id=job_id, executor=Executor.LOCAL)


def start_pool(array: RunPaths, root: Path, run_ids: Sequence[str]) -> None:
    """Hand some runs of an array to submitit's local executor, as one pool."""
    plan = records.read_json(array.plan)
    runs = [array.array(run_id) for run_id in run_ids]
    num_tasks = int(records.read_json(runs[0].plan)["num_tasks"])
    places = places_of(num_tasks, plan["at_once"])[: len(runs)]
    tasks = tuple(plan["run_ids"].index(run_id) for run_id in run_ids)
    work = LocalPool(array.root, root, tuple(run_ids), tasks, len(places), places)
    job_id = _start_controller(work, array, num_gpus=_num_gpus(runs[0]))
    for run, task in zip(runs, tasks, strict=True):
        Ledger(run.events).append(
            "submitted", job_id=task_id(job_id, task), executor=Executor.LOCAL, array=array.run_id
        )


def _start_controller(work: Callable[[], object], paths: RunPaths, *, num_gpus: int) -> str:
    from submitit.local.local import LocalExecutor

    executor = LocalExecutor(folder=paths.submitit)
    executor.update_parameters(timeout_min=TEN_YEARS_MIN, gpus_per_node=num_gpus)
    job: Any = executor.submit(work)
    return str(job.job_id)


def _num_gpus(paths: RunPaths) -> int:
    return int(records.read_json(paths.plan)["resources"]["gpus"])


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


def _last_line(text: str) -> str:
    """Return the line of sbatch's complaint that says why."""
    said = [line.strip() for line in text.splitlines() if "error:" in line]
    return (said or text.strip().splitlines() or [""])[-1]
