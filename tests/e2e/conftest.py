"""What every test here does at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import kill_all_in


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path) -> Iterator[None]:
    """End what a test that failed has left at work: runs that wait at a step would wait for ever."""
    yield
    kill_all_in(tmp_path)
