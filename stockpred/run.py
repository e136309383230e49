"""One training job from its configuration to its report, as every rank runs it."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.base.errors import ExitCode
from hpc.run import lease
from hpc.run.history import Ledger
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from hpc.run.stop import Stop
from stockpred.config import registry, schema

if TYPE_CHECKING:
    import torch

    from stockpred.train.checkpoint import Guard
    from stockpred.train.learner import Task

PREPARING_S = 3600.0
"""How long the other ranks wait for rank 0 to make the bars ready."""

log = logging.getLogger("stockpred")


def run_job(run_dir: Path) -> ExitCode:
    """Run this rank of a run's job and return its exit code: a mistake is one message, a bug a traceback."""
    env = JobEnv.read()
    paths = RunPaths(run_dir)
    wish_file = paths.stop_wish if env.is_main else None
    stop = Stop(deadline=env.deadline, wish_file=wish_file, attempt=env.attempt)
    stop.listen()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    try:
        return _run(env, paths, stop)
    except Exception as error:
        return _fail(error, env, paths)
    finally:
        stop.ignore()


def _fail(error: Exception, env: JobEnv, paths: RunPaths) -> ExitCode:
    from stockpred.train.failures import explained

    problem = explained(error, paths.root)
    if problem is None:
        traceback.print_exception(error)
        return ExitCode.FAILED
    log.error("error: %s", problem)
    if problem.exit_code == ExitCode.USAGE:
        # Told to the ledger, because the exit code may drown in that of a peer that was killed for it.
        with contextlib.suppress(OSError):
            Ledger(paths.events).append("mistake", attempt=env.attempt, text=str(problem))
    return problem.exit_code


def _run(env: JobEnv, paths: RunPaths, stop: Stop) -> ExitCode:
    experiment = schema.load(paths.config)
    guard = functools.partial(lease.check, paths.lease, env.lease)
    task_module = registry.load_task(experiment.task.name)
    if env.is_main:
        guard()
        log.info("=== attempt %d of %s/%s, %d ranks", env.attempt, paths.case, paths.run_id, env.world_size)
        task_module.prepare(experiment, paths, check_lease=guard)
    from stockpred.train import core, distributed

    with distributed.joined(env, paths, experiment.training, timeout_s=PREPARING_S) as group:
        task: Task = task_module.task(experiment, paths)
        ledger = Ledger(paths.events)
        if env.is_main:
            log.info("%s; on %s", task.describe(), group.device)
            if group.warning is not None:
                guard()
                ledger.append("warning", text=group.warning)
        outcome = core.train(
            learner=task.learner,
            stream=task.stream,
            settings=experiment.training,
            group=group,
            paths=paths,
            stop=stop,
            ledger=ledger,
            guard=guard,
        )
    if outcome is core.Outcome.CONTINUE_LATER:
        return ExitCode.CONTINUE_LATER
    if env.is_main:
        conclude(task, paths, group.device, guard)
        guard()
        ledger.append("finished", attempt=env.attempt)
    return ExitCode.OK


def conclude(task: Task, paths: RunPaths, device: torch.device, guard: Guard) -> None:
    """Score the best weights on the test period, once, and write results and report."""
    from stockpred.report.build import build_report
    from stockpred.report.curves import write_training_log
    from stockpred.train import checkpoint

    best = checkpoint.load_best(paths.best)
    for name, network in task.learner.networks.items():
        network.load_state_dict(best.networks[name])
    log.info("testing the weights of step %d", best.step)
    for line in task.test(best.step, device, guard):
        log.info(line)
    guard()
    write_training_log(paths)
    log.info("report: %s", build_report(paths, is_conclusion=True, guard=guard))
