"""Runs on a real Slurm that are longer than their time limit; all end with the same numbers.

All of them wait for their limits at the same time; the first test that asks for one waits longest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hpc.run.paths import RunPaths
from tests.slurm.clusters import Cluster, refuse_without_slurm, running_cluster
from tests.slurm.endings import assert_ends_like
from tests.slurm.workspaces import STOCKS, Submitted, Workspace, fingerprint, new_workspace

pytestmark = pytest.mark.slurm

# Nothing here is about how quickly ranks must leave, or how soon a node is missed.
PATIENT = ("--kill-wait", "30", "--slurmd-timeout", "120")
# A minute would do on a quiet machine; on a loaded one the start of four ranks may take most of it.
LIMIT = "resources.limit=2"
# A run waits at these steps for its limit, and passes them in the attempts that follow.
THREE_LIMITS, ONE_LIMIT, STOCKS_LIMIT = (30, 60, 90), (30,), (5,)
# One rank on each of two nodes: every attempt starts its ranks anew, and nothing here is about their number.
TWO_RANKS = "resources.gpus=1"
FOUR_STOCKS = ("--only", "AAPL,JNJ,XOM,^GSPC")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    refuse_without_slurm()
    with running_cluster("limits", "--min-job-age", "3600", *PATIENT) as running:
        yield running


@pytest.fixture(scope="module")
def cluster_without_accounting() -> Iterator[Cluster]:
    refuse_without_slurm()
    with running_cluster("bare", "--no-accounting", "--min-job-age", "30", *PATIENT) as running:
        yield running


@pytest.fixture(scope="module")
def limited(
    cluster: Cluster, cluster_without_accounting: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Submitted]]:
    """The runs with a limit, all under way, each watched by a monitor that lifts its holds."""
    base = tmp_path_factory.mktemp("limits")
    thrice = held_workspace(base / "thrice", cluster, *THREE_LIMITS)
    once = held_workspace(base / "once", cluster, *ONE_LIMIT)
    bare = held_workspace(base / "bare", cluster_without_accounting, *ONE_LIMIT)
    stocks = held_workspace(base / "stocks", cluster, *STOCKS_LIMIT)
    refused = held_workspace(base / "refused", cluster, *STOCKS_LIMIT)
    runs = {
        "requeued": thrice.submit(TWO_RANKS, LIMIT),
        "succeeded": once.submit(TWO_RANKS, LIMIT, "resources.requeue=false"),
        "unaccounted": bare.submit(TWO_RANKS, LIMIT),
    }
    for run in runs.values():
        run.until(run.paths.status.exists)  # not all ranks start at once
    array = stocks.submitted(*STOCKS, *FOUR_STOCKS, LIMIT)
    runs |= {f"stock {task}": run for task, run in enumerate(array)}
    pair = refused.submitted(*STOCKS, LIMIT, "--only", "JNJ,XOM", "resources.requeue=false")
    runs |= {f"successor {task}": run for task, run in enumerate(pair)}
    with ExitStack() as monitors:
        for workspace in (thrice, once, bare, stocks, refused):
            monitors.enter_context(workspace.monitored())
        yield runs


def held_workspace(root: Path, cluster: Cluster, *steps: int) -> Workspace:
    workspace = new_workspace(root, cluster)
    workspace.hold(*steps)
    return workspace


@pytest.fixture(scope="module")
def uninterrupted(
    limited: dict[str, Submitted], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    assert limited
    run = new_workspace(tmp_path_factory.mktemp("limits") / "whole", cluster).submit(TWO_RANKS)
    assert run.until_over() == "finished", run.story()
    assert len(run.history.attempts) == 1
    return fingerprint(run.paths)


@pytest.fixture(scope="module")
def pooled(
    limited: dict[str, Submitted], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """Return the fingerprint of each stock, trained in a pool of processes that nobody interrupted."""
    assert limited
    pool = new_workspace(tmp_path_factory.mktemp("limits") / "pool", cluster)
    done = pool.hpc("submit", *STOCKS, *FOUR_STOCKS, "--local", "--wait")
    assert done.returncode == 0, done.stderr
    found = [RunPaths(path.parent) for path in pool.root.glob("runs/*/*/events.jsonl")]
    return {stock_of(paths): fingerprint(paths) for paths in found}


def assert_was_interrupted_by_its_limit(run: Submitted, *, at_least: int) -> None:
    """Saved before the limit; on a loaded machine a start may take most of one, and Slurm ends it."""
    *interrupted, last = (attempt.cause for attempt in run.history.attempts)
    assert len(interrupted) >= at_least, run.story()
    assert interrupted[0] == "deadline"
    assert set(interrupted) <= {"deadline", "time limit"}
    assert last == "finished"


def stock_of(paths: RunPaths) -> str:
    return paths.run_id.split("-")[1]


def test_without_accounting_a_cancelled_job_is_known_as_such_after_slurm_forgot_it(
    limited: dict[str, Submitted], cluster_without_accounting: Cluster, tmp_path: Path
) -> None:
    assert limited
    workspace = held_workspace(tmp_path / "forgotten", cluster_without_accounting, 6)
    (run,) = workspace.submitted(*STOCKS, "--only", "AAPL")
    run.until_held(6)

    cluster_without_accounting.run("scancel", run.job_id)
    run.until(lambda: scheduler_forgot(run))

    assert run.view()["state"] == "cancelled"


def scheduler_forgot(run: Submitted) -> bool:
    queued = run.workspace.cluster.run("squeue", "--noheader", "--states=all", "--format=%i")
    return run.job_id not in queued.split()


def test_an_array_of_stocks_is_interrupted_once_each_and_changes_no_bit(
    limited: dict[str, Submitted], pooled: dict[str, dict[str, str]]
) -> None:
    stocks = [run for name, run in limited.items() if name.startswith("stock ")]

    assert [run.until_over() for run in stocks] == ["finished"] * 4, stocks[0].story()
    for task, run in enumerate(stocks):
        assert_was_interrupted_by_its_limit(run, at_least=1)
        assert run.history.job_ids == (f"{stocks[0].job_id.partition('_')[0]}_{task}",)
        assert fingerprint(run.paths) == pooled[stock_of(run.paths)], run.story()


def test_where_requeue_is_refused_a_successor_carries_one_run_of_an_array_on(
    limited: dict[str, Submitted], pooled: dict[str, dict[str, str]]
) -> None:
    for task, run in enumerate((limited["successor 0"], limited["successor 1"])):
        assert run.until_over() == "finished", run.story()
        first, *successors = run.history.job_ids
        assert first.endswith(f"_{task}")
        assert successors
        assert not any("_" in job_id for job_id in successors)
        assert run.history.array is not None
        assert fingerprint(run.paths) == pooled[stock_of(run.paths)], run.story()


def test_without_accounting_it_is_all_the_same(
    limited: dict[str, Submitted], uninterrupted: dict[str, str]
) -> None:
    run = limited["unaccounted"]

    assert run.until_over() == "finished", run.story()
    assert_was_interrupted_by_its_limit(run, at_least=1)
    assert_ends_like(run, uninterrupted, num_restarts=None)


def test_where_requeue_is_refused_successors_carry_the_run_on(
    limited: dict[str, Submitted], uninterrupted: dict[str, str]
) -> None:
    run = limited["succeeded"]

    assert run.until_over() == "finished", run.story()
    assert_was_interrupted_by_its_limit(run, at_least=1)
    assert len(run.history.job_ids) == len(run.history.attempts)
    assert_ends_like(run, uninterrupted, num_restarts=0)


def test_a_run_of_four_attempts_has_one_checkpoint_and_one_requeue_for_each_time_limit(
    limited: dict[str, Submitted], uninterrupted: dict[str, str]
) -> None:
    run = limited["requeued"]

    assert run.until_over() == "finished", run.story()
    assert_was_interrupted_by_its_limit(run, at_least=len(THREE_LIMITS))
    assert run.history.job_ids == (run.job_id,)
    assert_ends_like(run, uninterrupted, num_restarts=len(run.history.attempts) - 1)
