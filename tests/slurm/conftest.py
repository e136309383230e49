"""A real Slurm for the tests of this folder, and for whoever imports its helpers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.clusters import Cluster, refuse_without_slurm, running_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A private cluster with accounting, for all tests of the session."""
    refuse_without_slurm()
    with running_cluster("test", "--min-job-age", "1200") as running:
        yield running


@pytest.fixture(scope="session")
def cluster_without_accounting() -> Iterator[Cluster]:
    """A second one, beside the first, as on sites without slurmdbd."""
    refuse_without_slurm()
    with running_cluster("bare", "--no-accounting", "--min-job-age", "30") as running:
        yield running
