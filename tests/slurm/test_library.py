"""A person's own script under srun: ranks meet in its checkpoint folder and train as one process would."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.clusters import Cluster, refuse_without_slurm, running_cluster
from tests.stockpred.library import scripts
from tests.stockpred.library.compare import assert_close, assert_identical

pytestmark = pytest.mark.slurm

LIMIT_S = 500.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    refuse_without_slurm()
    with running_cluster("library", "--no-accounting") as running:
        yield running


def test_ranks_of_srun_equal_one_process_with_the_joint_batch(cluster: Cluster, tmp_path: Path) -> None:
    joint, ranks = tmp_path / "joint", tmp_path / "ranks"
    ranks.mkdir()
    asked = {"settings": {"use_distributed": False}, "batch_size": 12, "num_epochs": 3}
    scripts.ended(scripts.start(joint, asked), limit_s=LIMIT_S)
    shared = {"settings": {"checkpoint_dir": str(tmp_path / "kept")}, "batch_size": 6, "num_epochs": 3}
    environ = f"--export=ALL,PYTHONPATH={scripts.REPOSITORY},OMP_NUM_THREADS=1"
    program = (sys.executable, scripts.__file__, str(ranks), json.dumps(shared))
    cluster.run("srun", "--nodes=2", "--ntasks=2", environ, *program, timeout_s=LIMIT_S)
    assert_close(scripts.result(ranks, 0), scripts.result(joint))
    assert_identical(scripts.result(ranks, 0), scripts.result(ranks, 1))
