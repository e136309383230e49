"""Print a figure beside its rival's, from the same run on the same machine."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Samples = Mapping[str, Sequence[float]]


def seconds(act: Callable[[], object]) -> float:
    """Return how long ``act`` takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def in_turns(acts: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time each act ``repeats`` times, in turns, so that a busy machine is busy for all of them."""
    samples: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(repeats):
        for name, act in acts.items():
            samples[name].append(seconds(act))
    return samples


def show(title: str, samples: Samples, *, rival: str) -> None:
    """Print median and range of each, and its ratio to the rival's median."""
    width = max(map(len, samples))
    base = statistics.median(samples[rival])
    print(f"{title} ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})")
    for name, values in samples.items():
        middle = statistics.median(values)
        spread = f"{min(values):.3f} to {max(values):.3f}" if len(values) > 1 else "once"
        print(f"  {name:<{width}}  {middle:8.3f} s  ({spread})  {middle / base:.2f} x {rival}")
