"""What jobs call, not people: one attempt in a Slurm job, local runs and pools, runs without the launcher."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from hpc.attempt import local_job
from hpc.attempt.slurm_job import allocation_end, run_slurm_attempt
from hpc.attempt.submit import is_alive, write_runs
from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.commands.launch import refuse_missing_data
from hpc.plan.from_args import CheckedPlan, PlanRequest, checked_plan, plan_of_run
from hpc.run.decision import RetryLimits
from hpc.run.find import find_root, open_run, refuse_older
from hpc.run.paths import RunPaths
from hpc.slurm import commands as slurm


def attempt(request: PlanRequest, run_id: str, array: str | None, argv: Sequence[str]) -> ExitCode:
    """Run one attempt inside a Slurm job; ``argv`` are the overrides and the command that starts ranks.

    A script that was submitted by hand makes its run directory here.
    """
    overrides = tuple(takewhile(lambda word: "=" in word, argv))
    command = list(argv[len(overrides) :])
    assert request.case is not None
    paths = RunPaths.of(find_root(), request.case, run_id)
    if not paths.job_script.exists():  # the last of the files that ``write_runs`` writes
        checked = plan_of_run(replace(request, overrides=overrides), run_id)
        write_runs(checked.plan.runs, checked.packages)
    limits = RetryLimits.of(records.read_json(paths.plan))
    return run_slurm_attempt(paths, command, limits, array=array)


def runs_to_train(request: PlanRequest, *, is_writing: bool) -> str:
    """Answer one who trains a case without the launcher: its runs, and when this allocation ends, as JSON.

    Writes the directories that are not there. Raises UserError where the data is not there, or a job of one
    of the runs waits or works.
    """
    checked = checked_plan(request, ("data",) if is_writing else ())
    if is_writing:
        refuse_missing_data(checked)
        _write_free_runs(checked)
    runs = [str(run.paths.root) for run in checked.plan.runs]
    return json.dumps({"runs": runs, "deadline": allocation_end(os.environ)})


def run_local(run_dir: Path, array: str, at_once: int) -> None:
    """Take one run of a pool to its end."""
    root, paths = find_root(), RunPaths(run_dir)
    command, gpus = local_job.rank_command(paths, root), os.environ.get(local_job.GPUS)
    local_job.LocalRun(paths.root, root, command, gpus, array=array, at_once=at_once)()


def _write_free_runs(checked: CheckedPlan) -> None:
    queue = slurm.RecentQueue()
    runs = [open_run(run.paths) for run in checked.plan.runs]
    for run in runs:
        refuse_older(run)
        if is_alive(run, queue):
            what = f"{run.name} is at work as job {run.history.job_id}"
            fix = "wait for it, or cancel it with `hpc cancel`"
            raise UserError(what, fix=fix, exit_code=ExitCode.REFUSED)
    unfinished = [plan for plan, run in zip(checked.plan.runs, runs, strict=True) if not run.history.finished]
    write_runs(unfinished, checked.packages)
