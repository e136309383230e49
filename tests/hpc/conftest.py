"""A workspace to spoil, and the cluster whose answers lie in slurm_text/."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.slurm import cluster, parse
from hpc.slurm.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]
TEXTS = Path(__file__).parent / "slurm" / "slurm_text"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a copy of the repository's cases and templates, with a universe and one file of bars."""
    root = tmp_path / "market"
    _copy_workspace(root)
    return root


@pytest.fixture
def copy_workspace() -> Callable[[Path], None]:
    """Return the maker of such a workspace, for directories of any name."""
    return _copy_workspace


def _copy_workspace(root: Path) -> None:
    shutil.copytree(REPOSITORY / "cases", root / "cases")
    for name in ("base.sbatch.j2", "clusters"):
        source, target = REPOSITORY / "slurm" / name, root / "slurm" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    for case in root.glob("cases/[a-z]*/config.yaml"):
        case.with_name("universe.csv").write_text("symbol,name,category\nBTCUSDT,Bitcoin,crypto\n")
    (root / "bars").mkdir()
    (root / "bars" / "BTCUSDT.csv").write_text("date,open,high,low,close,volume\n")


@pytest.fixture
def lab() -> Cluster:
    """Return a cluster of four nodes with eight A100s each, and a CPU node, as a real Slurm described it."""
    return cluster.assemble(
        parse.node_groups((TEXTS / "sinfo.txt").read_text()),
        parse.partition_facts((TEXTS / "partitions.txt").read_text()),
        parse.settings((TEXTS / "config.txt").read_text()),
    )
