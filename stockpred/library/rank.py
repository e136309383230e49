"""The program of one rank that ``run_ranks`` has started: ``python -m stockpred.library.rank FOLDER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stockpred.library.launch import carry_out
from stockpred.library.processes import cleanup_distributed

if __name__ == "__main__":
    exit_code = carry_out(Path(sys.argv[1]))
    if exit_code == 0:
        cleanup_distributed()
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread may wait for a lost rank: it must not keep this process.
    os._exit(exit_code)
