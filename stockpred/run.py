"""One training job from its configuration to its report, as every rank runs it."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.base import yamlfile
from hpc.base.errors import ExitCode
from hpc.run.attempt import Attempt
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from stockpred.config import combination, registry, schema
from stockpred.config.base import Experiment
from stockpred.data.splits import Split

if TYPE_CHECKING:
    import torch

    from stockpred.train.learner import Task

PREPARING_S = 3600.0
"""How long the other ranks wait for rank 0 to make the bars ready."""

log = logging.getLogger("stockpred")


def run_job(run_dir: Path) -> ExitCode:
    """Run this rank of a run's job and return its exit code: a mistake is one message, a bug a traceback."""
    env = JobEnv.read()
    attempt = Attempt.join(RunPaths(run_dir), env)
    attempt.stop.listen()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its cache of fonts
    try:
        return _run(env, attempt)
    except Exception as error:
        return _fail(error, attempt)
    finally:
        attempt.stop.ignore()


def _fail(error: Exception, attempt: Attempt) -> ExitCode:
    """Print what went wrong and return the exit code for it; the ledger learns of a person's mistake."""
    from stockpred.train.failures import explained

    problem = explained(error, attempt.paths.root)
    if problem is None:
        traceback.print_exception(error)
        return ExitCode.FAILED
    log.error("error: %s", problem)
    if problem.exit_code == ExitCode.USAGE:
        # The exit code alone may be lost: a rank that is killed because of this one has another.
        with contextlib.suppress(OSError):
            attempt.ledger.append("mistake", attempt=attempt.number, text=str(problem))
    return problem.exit_code


def _run(env: JobEnv, attempt: Attempt) -> ExitCode:
    paths = attempt.paths
    experiment = schema.load(paths.config)
    task_module = registry.load_task(experiment.task.name)
    if env.is_main:
        attempt.check_lease()
        log.info("=== attempt %d of %s/%s, %d ranks", env.attempt, paths.case, paths.run_id, env.world_size)
        task_module.prepare(experiment, paths, check_lease=attempt.check_lease)
    from stockpred.train import core, distributed

    with distributed.joined(env, paths, experiment.training, timeout_s=PREPARING_S) as group:
        task: Task = task_module.task(experiment, paths)
        combination.require_methods(experiment.task.name, experiment.learner.name, task.learner)
        if env.is_main:
            log.info("%s; on %s", task.describe(), group.device)
            if group.warning is not None:
                attempt.record("warning", text=group.warning)
        outcome = core.train(
            learner=task.learner,
            stream=task.stream,
            settings=experiment.training,
            group=group,
            attempt=attempt,
        )
    if outcome is core.Outcome.CONTINUE_LATER:
        return ExitCode.CONTINUE_LATER
    if env.is_main:
        conclude(task, attempt, group.device, opens_test=opens_test(paths, experiment))
        attempt.record("finished")
    return ExitCode.OK


def opens_test(paths: RunPaths, experiment: Experiment) -> bool:
    """Say whether a run scores its test when it ends: by its setting, else unless it is one of an array."""
    if experiment.task.test is not None:
        return experiment.task.test == "once"
    array = yamlfile.plain(yamlfile.load(paths.config)).get("array")
    return not (isinstance(array, dict) and array.get("key"))


def conclude(task: Task, attempt: Attempt, device: torch.device, *, opens_test: bool) -> None:
    """Score the best weights on validation, and once on the test if it is opened; write the report."""
    from stockpred.report.build import build_report
    from stockpred.report.curves import write_training_log

    paths = attempt.paths
    step = load_best(task, paths)
    log.info("scoring the weights of step %d", step)
    for split in (Split.VALIDATION, Split.TEST) if opens_test else (Split.VALIDATION,):
        for line in task.score(split, step, device, attempt.check_lease):
            log.info(line)
    if not opens_test:
        log.info("the test stays sealed; to open it: stockpred open-test %s", paths.root)
    attempt.check_lease()
    write_training_log(paths)
    log.info("report: %s", build_report(paths, is_conclusion=True, check_lease=attempt.check_lease))


def load_best(task: Task, paths: RunPaths) -> int:
    """Load the best weights into the task's networks; return the step that they are of."""
    from stockpred.train import checkpoint

    best = checkpoint.load_best(paths.best)
    for name, network in task.learner.networks.items():
        network.load_state_dict(best.networks[name])
    return best.step
