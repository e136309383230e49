"""The benchmark of the factors on a few bars: it runs, and what it compares is equal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def test_ours_and_pandas_compute_the_same_factors() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/factors.py", "--assets", "3", "--days", "60", "--repeats", "1"],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "14 factors of 180 bars of 3 assets" in done.stdout
    # Of each asset's 60 bars: 3 candles, ROC5, ROC20, 3 windows of 5, 6 of 20.
    num_values = 3 * (3 * 60 + 55 + 40 + 3 * 56 + 6 * 41)
    assert f"  equal to pandas: {num_values:,} values" in done.stdout
