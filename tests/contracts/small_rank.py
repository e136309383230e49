"""One rank that trains a small learner, and may kill or stop itself at a step of its first attempt.

Usage: small_rank.py RUN_DIR REQUEST_JSON, with RANK, WORLD_SIZE and HPC_ATTEMPT in the environment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import small_learners
import toy_core

from hpc.base.errors import ExitCode
from hpc.run.attempt import Attempt
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from hpc.run.stop import Stop
from stockpred.config.base import TrainingConfig
from stockpred.train import core, distributed
from stockpred.train.learner import Batch, Learner, Networks, Update


def interrupted(learner: Learner, attempt: int, signals: dict[str, dict[str, str]]) -> Learner:
    """Let this process signal itself within a step: {attempt: {step: signal}}."""
    updates, wanted = learner.updates, signals.get(str(attempt), {})

    def signalling(batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        for index, update in enumerate(updates(batch, networks, step)):
            if index == 0 and str(step) in wanted:
                os.kill(os.getpid(), signal.Signals[wanted[str(step)]])
            yield update

    learner.updates = signalling  # type: ignore[method-assign]
    return learner


def main(run: Path, settings: TrainingConfig, name: str, signals: dict[str, dict[str, str]]) -> ExitCode:
    env = JobEnv.read()
    stop = Stop(deadline=None, request_file=None, attempt=env.attempt, margin_s=0.0, check_every_s=0.0)
    stop.listen()
    make_learner, make_stream = small_learners.LEARNERS[name]
    with distributed.joined(env, RunPaths(run), settings, timeout_s=60.0) as group:
        outcome = core.train(
            learner=interrupted(make_learner(), env.attempt, signals),
            stream=make_stream(),
            settings=settings,
            group=group,
            attempt=Attempt(RunPaths(run), env.attempt, stop),
        )
    return ExitCode.CONTINUE_LATER if outcome is core.Outcome.CONTINUE_LATER else ExitCode.OK


if __name__ == "__main__":
    asked = json.loads(sys.argv[2])
    chosen = TrainingConfig.model_validate(toy_core.SETTINGS | asked["settings"])
    code = main(Path(sys.argv[1]), chosen, asked["options"]["learner"], asked["options"].get("signals", {}))
    sys.stdout.flush()
    os._exit(code)
