"""The GPU benchmark where there is no GPU: it says so, and its tiny version runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROJECT = Path(__file__).resolve().parents[1]


def run_benchmark(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/gpu_throughput.py", *words],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    done = run_benchmark()
    assert done.returncode == 1
    assert "sees no GPU" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_its_tiny_version_compares_both_loops_and_claims_no_share_of_a_peak() -> None:
    done = run_benchmark("--cpu", "--steps", "3")
    assert done.returncode == 0, done.stderr
    for case in ("crypto", "full_market"):
        assert f"{case} on a tiny model on the CPU, 4 x 16 tokens a step" in done.stdout
    assert len(re.findall(r"ours: [\d,]+ tokens/s, no MFU", done.stdout)) == 2
    assert len(re.findall(r"plain loop: [\d,]+ tokens/s, no MFU", done.stdout)) == 2


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_a_peak_is_known_or_not_claimed(
    monkeypatch: pytest.MonkeyPatch, name: str, peak: float | None
) -> None:
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    import gpu_throughput

    assert gpu_throughput.peak_of(name) == peak
