"""When things happen: pure functions of the step, so that a resumed run does them at the same steps.

Steps count finished optimizer rounds: step 1 is the first.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Protocol

from stockpred.config.base import TrainingConfig

ROWS_PER_EVALUATION = 10


@dataclass(frozen=True)
class Cadence:
    """The length of training and what is due at which step; ``global_batch`` counts samples of one step."""

    num_samples: int
    global_batch: int
    total_steps: int
    evaluations_per_epoch: float

    @classmethod
    def of(cls, settings: TrainingConfig, num_samples: int, world_size: int) -> Cadence:
        global_batch = settings.batch_size * settings.accumulate * world_size
        total_steps = math.ceil(settings.epochs * num_samples / global_batch)
        if settings.max_steps is not None:
            total_steps = min(total_steps, settings.max_steps)
        return cls(num_samples, global_batch, total_steps, settings.evaluations_per_epoch)

    def epoch(self, step: int) -> float:
        """Return the passes over the samples after ``step``."""
        return step * self.global_batch / self.num_samples

    def evaluates(self, step: int) -> bool:
        return step == self.total_steps or self._num_evaluations(step) > self._num_evaluations(step - 1)

    def writes_row(self, step: int) -> bool:
        return step % self.row_every == 0 or self.evaluates(step)

    @property
    def row_every(self) -> int:
        steps_per_evaluation = self.num_samples / (self.global_batch * self.evaluations_per_epoch)
        return max(1, round(steps_per_evaluation / ROWS_PER_EVALUATION))

    def _num_evaluations(self, step: int) -> int:
        return int(step * self.global_batch * self.evaluations_per_epoch // self.num_samples)


class Milestones(Protocol):
    """The steps at which training saves however little time has passed since it last did."""

    def is_due(self, step: int) -> bool: ...

    def passed(self, step: int, *, is_new: bool) -> None:
        """Follow the checkpoint of such a step onto the disk; on rank 0.

        A step is new when training has come to it, and not when it begins or goes on there.
        """
        ...


def random_key(seed: int, purpose: str, *counters: int) -> int:
    """Return the seed of one draw, a function of what it is for: no generator's state has to be saved."""
    text = f"{seed}/{purpose}/{'/'.join(map(str, counters))}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
