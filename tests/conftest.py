"""Fixtures for every test; the order in which tests run, on which workers, and what is said at the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import failed, parallel

REPOSITORY = Path(__file__).resolve().parents[1]

# Several workers and the ranks that they start share the cores; and runs are compared that have to have
# equally many threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# On a loaded machine examples are made slowly; that says nothing about the code.
hypothesis.settings.register_profile(
    "loaded", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("loaded")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(failed, "failed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=parallel.place_in_order)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return parallel.num_workers()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return parallel.scheduler(config, log)


@pytest.fixture(scope="session")
def real_bars() -> Path:
    """Return the folder with real bars: ``STOCKPRED_BARS``, else ``shared/data`` beside the repository."""
    folder = Path(os.environ.get("STOCKPRED_BARS") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "market_daily.parquet").is_file():
        pytest.skip(f"real_bars: there are none in {folder}; set STOCKPRED_BARS to their folder")
    return folder
