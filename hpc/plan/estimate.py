"""What a plan may cost at most, and how big its model is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.base.errors import UserError, raise_all
from hpc.base.text import duration
from hpc.plan import program
from hpc.plan.config import Config
from hpc.plan.resources import Resources

TIMED_OUT = 124


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


def model_sizes(root: Path, configs: Sequence[Config]) -> list[int | None]:
    """Let the training program count the parameters of each case's model; None where it does not answer.

    Raises UserError for models that cannot be built as configured.
    """
    answer = program.ask("size", about=[config.experiment for config in configs], root=root)
    if answer.code == TIMED_OUT:
        return [None] * len(configs)
    if not answer.is_ok:
        what = "a model cannot be built: " + (answer.err.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(what, where="model.name", fix="mend its file in stockpred/models")
    rows = json.loads(answer.out)
    pairs = zip(rows, configs, strict=True)
    raise_all(program.errors((row, config.origin) for row, config in pairs if "what" in row))
    return [row["size"] for row in rows]
