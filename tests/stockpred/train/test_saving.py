"""What ranks send each other at a save."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import toy_core
from small_learners import RecurrentPpo
from torch import Tensor

from hpc.run.attempt import Attempt
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from stockpred.config.base import TrainingConfig
from stockpred.train.distributed import Group
from stockpred.train.saving import Saver
from stockpred.train.validation import Selection


class Remote(Tensor):
    """Stands in for a tensor on a GPU: only ``cpu`` makes a plain one of it."""

    def cpu(self, *args: Any, **options: Any) -> Tensor:
        return self.as_subclass(Tensor)


def remote(value: float) -> Tensor:
    return torch.tensor([value]).as_subclass(Remote)


class Playing(RecurrentPpo):
    """Has a state of each part with tensors at every depth, and a part without one."""

    def part_state(self, part: int) -> dict[str, Any] | None:
        return {"seen": remote(part), "memory": [remote(1.0), (remote(2.0), 3)]} if part else None


@dataclass(frozen=True)
class Sending(Group):
    """Notes what leaves this rank."""

    sent: list[Any] = field(default_factory=list)

    def gather_on_main(self, value: Any) -> list[Any]:
        self.sent.append(value)
        return [value]


def test_states_of_parts_leave_a_rank_on_the_cpu(tmp_path: Path) -> None:
    env, settings = JobEnv.read({}), TrainingConfig.model_validate(toy_core.SETTINGS | {"accumulate": 2})
    group, learner = Sending(env, torch.device("cpu")), Playing()
    selection = Selection.of(settings.selection, learner.metrics, 10)
    saver = Saver(learner, {}, selection, settings, group, Attempt.join(RunPaths(tmp_path), env))

    gathered = saver.gather({})

    (sent,) = group.sent
    (first, (second, count)) = sent[1]["memory"]
    assert {type(tensor) for tensor in (sent[1]["seen"], first, second)} == {Tensor}
    assert (sent[0], sent[1]["seen"].item(), count) == (None, 1.0, 3)
    assert gathered["parts"] == sent
