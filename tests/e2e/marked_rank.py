"""A rank that leaves a mark while it is in a step, an evaluation or a save; nothing else is changed.

Usage: marked_rank.py RUN_DIR MARK
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stockpred.run import run_job
from stockpred.train import checkpoint, core
from stockpred.train.updater import Updater


def marked(act: Callable[..., Any], name: str, mark: Path) -> Callable[..., Any]:
    @functools.wraps(act)
    def inner(*arguments: Any, **named: Any) -> Any:
        mark.write_text(name)
        try:
            return act(*arguments, **named)
        finally:
            mark.write_text("between")

    return inner


if __name__ == "__main__":
    place = Path(sys.argv[2])
    core.validate = marked(core.validate, "evaluate", place)
    checkpoint.save = marked(checkpoint.save, "save", place)
    Updater.run = marked(Updater.run, "step", place)  # type: ignore[method-assign]
    sys.exit(run_job(Path(sys.argv[1])))
