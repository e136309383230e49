"""What a plan may cost at most."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpc.base.text import duration
from hpc.plan.resources import Resources


@dataclass(frozen=True)
class Estimate:
    """The most that one attempt can use: every GPU until the time limit. Infinite without a limit."""

    num_gpus: int
    limit_s: float

    @property
    def gpu_hours(self) -> float:
        return self.num_gpus * self.limit_s / 3600

    def __str__(self) -> str:
        if math.isinf(self.limit_s):
            return f"no upper bound: {self.num_gpus} GPUs without a time limit"
        size = f"{self.num_gpus} GPUs x {duration(self.limit_s)}"
        return f"at most {self.gpu_hours:,.1f} GPU-hours per attempt ({size})"


def upper_bound(resources: Resources) -> Estimate:
    """Return the bound for one attempt; each requeue may use as much again."""
    return Estimate(resources.num_tasks, resources.limit_s)
