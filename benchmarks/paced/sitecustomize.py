"""Let a step take at least ``PACE_S`` seconds; Python runs this file when its folder is on PYTHONPATH."""

from __future__ import annotations

import os
import time
from typing import Any

from hpc.run import stop

agree = stop.Stop.agree


def agree_after_a_while(self: stop.Stop, step: int, **facts: Any) -> stop.Agreement:
    time.sleep(float(os.environ.get("PACE_S", "0")))
    return agree(self, step, **facts)


stop.Stop.agree = agree_after_a_while  # type: ignore[method-assign]
