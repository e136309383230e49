"""Let training wait at steps that a test names; Python runs this file when its folder is on PYTHONPATH.

A rank looks for ``hold.json`` in its working directory. At a step that the file names, all ranks wait in the
agreement at the step's end until the file is gone, so a signal, a request or the deadline ends the wait as it
would end training. Nothing else differs: the same numbers come out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpc.run import stop

POLL_S = 0.2


def holding(agree: Callable[..., stop.Agreement]) -> Callable[..., stop.Agreement]:
    def inner(self: stop.Stop, step: int, **facts: Any) -> stop.Agreement:
        facts_while_held = facts | {"next_evaluates": True, "save_is_due": False}
        while any(facts["reduce_max"]([float(names_step(step))])):
            mark(self, step)
            agreement = agree(self, step, **facts_while_held)
            if agreement.stop is not None:
                return agreement
            time.sleep(POLL_S)
        return agree(self, step, **facts)

    return inner


def names_step(step: int) -> bool:
    try:
        return step in json.loads(Path("hold.json").read_text())["steps"]
    except FileNotFoundError:
        return False


def mark(of: stop.Stop, step: int) -> None:
    """Tell the test where this attempt waits; only rank 0 knows the run directory."""
    if of.request_file is not None:
        Path(of.request_file.parent, f"held_{of.attempt}_{step}").touch()


stop.Stop.agree = holding(stop.Stop.agree)  # type: ignore[method-assign]
