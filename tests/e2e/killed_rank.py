"""A rank that kills itself with -9 in the midst of a step, an evaluation or a save; nothing else is changed.

Usage: killed_rank.py RUN_DIR [ACT NUMBER FRACTION]
It dies in the ACT with this NUMBER since its start, after a FRACTION of the time that the last one took.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stockpred.run import run_job
from stockpred.train import checkpoint, core
from stockpred.train.updater import Updater

PLACES: dict[str, tuple[Any, str]] = {
    "step": (Updater, "run"),
    "evaluate": (core, "validate"),
    "save": (checkpoint, "save"),
}


def deadly(act: Callable[..., Any], number: int, fraction: float) -> Callable[..., Any]:
    """Return ``act``, which ends this process in its ``number``-th call; the calls before are measured."""
    took_s: list[float] = []

    @functools.wraps(act)
    def inner(*arguments: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        if len(took_s) == number - 1:
            threading.Timer(fraction * took_s[-1], os.kill, (os.getpid(), signal.SIGKILL)).start()
        result = act(*arguments, **named)
        took_s.append(time.perf_counter() - begin)
        return result

    return inner


if __name__ == "__main__":
    run_dir, *death = sys.argv[1:]
    if death:
        owner, name = PLACES[death[0]]
        setattr(owner, name, deadly(getattr(owner, name), int(death[1]), float(death[2])))
        sys.setswitchinterval(1e-4)  # so that the timer's thread is not kept waiting
    sys.exit(run_job(Path(run_dir)))
