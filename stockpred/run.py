"""One training job from its configuration to its report, as every rank runs it."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpc import lease
from hpc.errors import ExitCode, UserError
from hpc.jobenv import JobEnv
from hpc.ledger import Ledger
from hpc.paths import RunPaths
from hpc.stop import Stop
from stockpred.config import Experiment

if TYPE_CHECKING:
    import torch

    from stockpred.data.dataset import Dataset
    from stockpred.data.stream import WindowStream
    from stockpred.train.checkpoint import Guard
    from stockpred.train.distributed import Group
    from stockpred.train.learner import Forecaster, Learner

PREPARING_S = 3600.0
"""How long the other ranks wait for rank 0 to make the bars ready."""

log = logging.getLogger("stockpred")


@dataclass(frozen=True)
class Parts:
    """What an experiment is made of; learner and forecaster are one object in two roles."""

    dataset: Dataset
    stream: WindowStream
    learner: Learner
    forecaster: Forecaster

    @property
    def num_parameters(self) -> int:
        from stockpred.train.learner import num_parameters

        return sum(map(num_parameters, self.learner.networks.values()))


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
    experiment = Experiment.load(paths.config)
    guard = functools.partial(lease.check, paths.lease, env.lease)
    if env.is_main:
        guard()
        log.info("=== attempt %d of %s/%s, %d ranks", env.attempt, paths.case, paths.run_id, env.world_size)
        from stockpred.data import dataset

        dataset.prepare(experiment, paths, guard=guard)
    from stockpred.train import core, distributed

    with distributed.joined(env, paths, experiment.training, timeout_s=PREPARING_S) as group:
        parts = build_parts(experiment, paths)
        ledger = Ledger(paths.events)
        if env.is_main:
            _describe(experiment, parts, group)
            if group.warning is not None:
                guard()
                ledger.append("warning", text=group.warning)
        outcome = core.train(
            learner=parts.learner,
            stream=parts.stream,
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
        conclude(experiment, parts, paths, group.device, guard)
        guard()
        ledger.append("finished", attempt=env.attempt)
    return ExitCode.OK


def build_parts(experiment: Experiment, paths: RunPaths) -> Parts:
    """Put data, stream and learner together from the prepared bars of a run."""
    from stockpred import discover
    from stockpred.data.dataset import load
    from stockpred.data.stream import WindowStream

    dataset = load(paths)
    stream = WindowStream(
        dataset,
        context_length=experiment.model.context_length,
        stride=experiment.data.stride,
        seed=experiment.training.seed,
        score_stride=experiment.data.score_stride,
    )
    way = discover.load("stockpred.learners", experiment.learner.name, where="learner.name")
    learner = way.build(experiment, dataset)
    return Parts(dataset, stream, learner, forecaster=_forecaster(learner, experiment.learner.name))


def _forecaster(learner: Learner, name: str) -> Forecaster:
    """Return the learner as what the test needs; better refused now than after days of training."""
    from stockpred.train.learner import Forecaster

    if isinstance(learner, Forecaster):
        return learner
    raise UserError(
        f"the learner {name!r} cannot forecast bars, and every run ends with a test of its forecasts",
        where="learner.name",
        fix="choose one that has predict_log_probs, as next_bar has",
    )


def conclude(
    experiment: Experiment, parts: Parts, paths: RunPaths, device: torch.device, guard: Guard
) -> None:
    """Score the best weights on the test period, once, and write results and report."""
    from stockpred.data.windows import scoring_stride
    from stockpred.evaluate import evaluate_test
    from stockpred.report.build import build_report
    from stockpred.report.curves import write_training_log
    from stockpred.results import Evaluated
    from stockpred.train import checkpoint
    from stockpred.train.core import to_device

    best = checkpoint.load_best(paths.best)
    for name, network in parts.learner.networks.items():
        network.load_state_dict(best.networks[name])
    log.info("testing the weights of step %d", best.step)
    found = evaluate_test(
        parts.dataset,
        lambda batch: parts.forecaster.predict_log_probs(to_device(batch, device)),
        paths=paths,
        evaluated=Evaluated(experiment.model.name, parts.num_parameters, best.step),
        context_length=experiment.model.context_length,
        stride=scoring_stride(experiment.model.context_length, experiment.data.score_stride),
        batch_size=experiment.training.batch_size,
        guard=guard,
    )
    guard()
    write_training_log(paths)
    for scores in (found.model, *found.rivals):
        if scores.nats is not None:
            log.info("test %-12s %.4f nats per bar", scores.label, scores.nats)
    log.info("report: %s", build_report(paths, is_conclusion=True, guard=guard))


def _describe(experiment: Experiment, parts: Parts, group: Group) -> None:
    log.info(
        "%s with %.2fM parameters on %s; %d training windows, %d validation bars",
        experiment.model.name,
        parts.num_parameters / 1e6,
        group.device,
        parts.stream.num_samples,
        parts.stream.num_scored("validation"),
    )
