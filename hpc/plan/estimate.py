"""What a plan may cost at most."""

from __future__ import annotations

from hpc.plan.resources import Resources


def most_gpu_hours(resources: Resources) -> float:
    """Return what one attempt can use, every GPU until the time limit: infinite without a limit.

    Each requeue may use as much again.
    """
    return resources.num_tasks * resources.limit_s / 3600
