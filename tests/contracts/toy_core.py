"""A toy of two networks for the core, and the program that one rank of its tests runs.

Usage: toy_core.py RUN_DIR OPTIONS_JSON, with RANK, WORLD_SIZE and HPC_ATTEMPT in the environment.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hpc.base.errors import ExitCode, UserError
from hpc.run.attempt import Attempt
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from hpc.run.stop import Stop
from stockpred.config.base import TrainingConfig
from stockpred.train import core, distributed
from stockpred.train.learner import Batch, Direction, Evaluation, Learner, Networks, Update
from tests.forked import Rank
from tests.holds.control import PROJECT, PYTHONPATH

REPOSITORY = PROJECT
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "epochs": 4,
    "max_steps": None,
    "batch_size": 8,
    "accumulate": 1,
    "lr": 1e-2,
    "min_lr_fraction": 0.1,
    "warmup_fraction": 0.1,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "gradient_clip": 1.0,
    "optimizers": {},
    "precision": "fp32",
    "device": "cpu",
    "patience": 1000,
    "selection": {"metric": None, "first_step": 0},
    "evaluations_per_epoch": 2.0,
    "checkpoint_every_s": 1000.0,
    "keep_checkpoints": 2,
    "compile": False,
    "exact": False,
    "parallel": "ddp",
    "gradient_checkpointing": False,
    "gradient_compression": "none",
    "lr_batch": None,
    "collective_timeout_s": 600.0,
    "nccl_debug": None,
    "tensorboard": False,
    "num_workers": 0,
}


@dataclass(frozen=True)
class Options:
    """What a test may change. ``is_noisy`` adds dropout, batch norm and a learner's own state."""

    is_noisy: bool = False
    num_samples: int = 150
    bad_step: int | None = None
    skips_rehearsal: bool = False
    rendezvous_timeout_s: float = 600.0
    leave_within_s: float | None = None
    """Seconds from the moment the ranks have met to the deadline."""


class ToyStream:
    """Samples of a noisy line, a third of them masked; a pass is a permutation keyed by its number."""

    def __init__(self, num_samples: int, num_features: int = 6) -> None:
        generator = torch.Generator().manual_seed(11)
        self.num_samples = num_samples
        self.inputs = torch.randn(num_samples, num_features, generator=generator)
        self.noise = torch.randn(num_samples, 3, generator=generator)
        self.mask = torch.rand(num_samples, generator=generator) > 0.33

    def batch(self, step: int, part: int, num_parts: int, part_size: int) -> Batch:
        joint = self._joint(step, num_parts * part_size)
        mine = joint[part * part_size : (part + 1) * part_size]
        return self._gather(mine, self.mask[joint].sum() / num_parts)

    def evaluation(self, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        mine = torch.arange(part, self.num_samples, num_parts)
        for indices in torch.split(mine, batch_size):
            yield self._gather(indices, torch.ones(()))

    def _joint(self, step: int, size: int) -> Tensor:
        positions = range(step * size, (step + 1) * size)
        return torch.tensor([self._sample(position) for position in positions])

    def _sample(self, position: int) -> int:
        number, offset = divmod(position, self.num_samples)
        order = torch.randperm(self.num_samples, generator=torch.Generator().manual_seed(number))
        return int(order[offset])

    def _gather(self, indices: Tensor, loss_weight: Tensor) -> Batch:
        return {
            "inputs": self.inputs[indices],
            "noise": self.noise[indices],
            "mask": self.mask[indices],
            "loss_weight": loss_weight,
        }


class ToyGan(Learner):
    """A critic with three updates a step and a generator whose only loss goes through the critic."""

    metrics: Mapping[str, Direction] = {"distance": "min"}

    def __init__(self, options: Options) -> None:
        torch.manual_seed(5)
        self.bad_step = options.bad_step
        self.num_steps = 0
        self.is_noisy = options.is_noisy
        extra: list[nn.Module] = [nn.BatchNorm1d(16), nn.Dropout(0.2)] if options.is_noisy else []
        self.networks: dict[str, nn.Module] = {
            "critic": nn.Sequential(nn.Linear(6, 16), *extra, nn.Tanh(), nn.Linear(16, 1)),
            "generator": nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 6)),
        }

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        critic, generator = networks.synced("critic"), networks.synced("generator")
        weight = 1.0 + 0.01 * (step % 7) if self.is_noisy else 1.0
        for _ in range(3):
            real = critic(batch["inputs"]).squeeze(-1)
            fake = networks.local("critic")(networks.local("generator")(batch["noise"]).detach()).squeeze(-1)
            yield "critic", weight * self._mean((real - 1.0) ** 2 + fake.detach() ** 2 + fake**2, batch)
        made = generator(batch["noise"])
        if self.is_noisy:
            made = made + 0.1 * torch.randn_like(made)
        loss = self._mean((networks.local("critic")(made).squeeze(-1) - 1.0) ** 2, batch)
        yield "generator", loss * torch.nan if step + 1 == self.bad_step else loss

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        made = networks.local("generator")(batch["noise"])
        distance = ((made - batch["inputs"]) ** 2).mean(-1)
        return Evaluation({"distance": (distance.sum(), torch.tensor(float(len(distance))))})

    def after_step(self, step: int) -> None:
        self.num_steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {"num_steps": self.num_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_steps = state["num_steps"]

    def _mean(self, losses: Tensor, batch: Batch) -> Tensor:
        return (losses * batch["mask"]).sum() / batch["loss_weight"]


def main(run: Path, settings: TrainingConfig, options: Options) -> core.Outcome:
    """Run one rank."""
    env, paths = JobEnv.read(), RunPaths(run)
    stop = Stop(
        deadline=env.deadline,
        request_file=paths.stop_request if env.is_main else None,
        attempt=env.attempt,
        margin_s=0.0,
        check_every_s=0.05,
    )
    stop.listen()
    if options.skips_rehearsal:
        core.Core._warm_up_phase = lambda self: None  # type: ignore[method-assign]
    with distributed.joined(env, paths, settings, timeout_s=options.rendezvous_timeout_s) as group:
        if options.leave_within_s is not None:
            stop.margin_s, stop.deadline = 2.0, time.time() + options.leave_within_s
            (run / "deadline").write_text(str(stop.deadline))
        return core.train(
            learner=ToyGan(options),
            stream=ToyStream(options.num_samples),
            settings=settings,
            group=group,
            attempt=Attempt(paths, env.attempt, stop),
        )


def launch(
    run: Path,
    world_size: int,
    attempt: int,
    settings: dict[str, Any],
    options: dict[str, Any],
    *,
    program: str = __file__,
    **environ: str,
) -> list[Rank]:
    """Start every rank of one attempt as a process of its own."""
    run.mkdir(parents=True, exist_ok=True)
    command = [program, str(run), json.dumps({"settings": settings, "options": options})]
    base = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    base |= {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1", "HPC_ATTEMPT": str(attempt), **environ}
    return [
        Rank(command, cwd=run, env={**base, "RANK": str(rank), "WORLD_SIZE": str(world_size)})
        for rank in range(world_size)
    ]


def program(run: str, request: str) -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    asked = json.loads(request)
    settings = TrainingConfig.model_validate(SETTINGS | asked["settings"])
    try:
        outcome = main(Path(run), settings, Options(**asked["options"]))
    except UserError as error:
        print(error, flush=True)
        return error.exit_code
    return ExitCode.CONTINUE_LATER if outcome is core.Outcome.CONTINUE_LATER else ExitCode.OK


if __name__ == "__main__":
    code = program(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
