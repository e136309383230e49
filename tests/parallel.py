"""How tests are spread over workers: file by file, those that wait longest first."""

from __future__ import annotations

import os
from typing import Any

import pytest

LONGEST_FIRST = (
    "tests/slurm/test_time_limits.py",
    "tests/slurm/test_interruptions.py",
    "tests/test_docs.py",
    "tests/e2e/test_array.py",
    "tests/slurm/test_devcluster.py",
    "tests/e2e/test_demo.py",
    "tests/e2e/test_exact_resume.py",
    "tests/slurm/test_slurm_readme.py",
    "tests/contracts/test_core.py",
)
"""These begin first; the others follow in the order in which pytest finds them."""

SPREAD = (
    "tests/contracts/test_core.py",
    "tests/stockpred/test_run.py",
    "tests/stockpred/train/test_distributed.py",
)
"""Files of long tests that share nothing: each test goes to whichever worker is free."""

MOST_WORKERS = 16


def place_in_order(item: pytest.Item) -> int:
    """Return a key that sorts the tests: which file begins first."""
    file = file_of(item.nodeid)
    return LONGEST_FIRST.index(file) if file in LONGEST_FIRST else len(LONGEST_FIRST)


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def num_workers() -> int:
    """Return a worker for each core and one more: some tests only wait, those of Slurm start many ranks."""
    return min(MOST_WORKERS, (os.cpu_count() or 1) + 1)


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what gives the workers their tests: the tests of a file share expensive fixtures."""
    from xdist.scheduler import LoadScopeScheduling

    class FileByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = file_of(nodeid)
            return nodeid if file in SPREAD else file

    config.option.loadscopereorder = False  # the order is ours, not that of the number of tests in a file
    return FileByFile(config, log)
