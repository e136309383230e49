"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_bars() -> Path:
    """Return the folder with real bars: ``STOCKPRED_BARS``, else ``shared/data`` beside the repository."""
    folder = Path(os.environ.get("STOCKPRED_BARS") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "market_daily.parquet").is_file():
        pytest.skip(f"real_bars: there are none in {folder}; set STOCKPRED_BARS to their folder")
    return folder
