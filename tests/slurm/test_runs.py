"""Runs on a real Slurm, 2 nodes x 2 ranks, interrupted in every way; all end with the same numbers.

The runs that only wait for their time limit start together on nodes 1 and 2; the tests that interfere use
nodes 3 and 4 meanwhile.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from tests.slurm.clusters import Cluster
from tests.slurm.workspaces import (
    PACE_S,
    SETTINGS,
    STOCKS,
    Submitted,
    Workspace,
    fingerprint,
    new_workspace,
    processes_of,
)

pytestmark = pytest.mark.slurm

KILL_WAIT_S = 5.0
LIMITED = ("resources.limit=1", "training.min_step_s=0.6", "resources.extra={nodelist: 'a100-[1-2]'}")
FREE = (f"training.min_step_s={PACE_S}", "resources.extra={nodelist: 'a100-[3-4]'}")
ONCE_LIMITED = ("resources.limit=2", "training.min_step_s=0.65", "resources.exclude=a100-[3-4]")
HOSTILE = 'it\'s a "work" space\nof $HOME; 100%'


@pytest.fixture(scope="module")
def uninterrupted(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run = new_workspace(tmp_path_factory.mktemp("slurm") / "whole", cluster).submit("training.min_step_s=0")
    assert run.until_over() == "finished", run.story()
    assert len(run.history.attempts) == 1
    return fingerprint(run.paths)


@pytest.fixture(scope="module")
def limited(
    uninterrupted: dict[str, str],
    cluster: Cluster,
    cluster_without_accounting: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Submitted]]:
    """The runs with a limit of one minute, all under way, each watched by a monitor that lifts its holds."""
    base = tmp_path_factory.mktemp("slurm")
    runs = {
        "requeued": new_workspace(base / "requeued", cluster).submit(*LIMITED),
        "succeeded": new_workspace(base / "succeeded", cluster).submit(*LIMITED, "resources.requeue=false"),
        "unaccounted": new_workspace(base / "bare", cluster_without_accounting).submit(*LIMITED),
    }
    stocks = new_workspace(base / "stocks", cluster)
    array = stocks.submitted(*STOCKS, *ONCE_LIMITED)
    runs |= {f"stock {task}": run for task, run in enumerate(array)}
    refused = new_workspace(base / "refused", cluster)
    pair = refused.submitted(*STOCKS, *ONCE_LIMITED, "--only", "JNJ,XOM", "resources.requeue=false")
    runs |= {f"successor {task}": run for task, run in enumerate(pair)}
    forgotten = new_workspace(base / "forgotten", cluster_without_accounting).submit(*FREE)
    workspaces = {run.workspace.root: run.workspace for run in runs.values()}
    monitors = [workspace.start_hpc("monitor") for workspace in workspaces.values()]
    forgotten.until(lambda: forgotten.step() > 5)
    cluster_without_accounting.run("scancel", forgotten.job_id)
    yield {**runs, "forgotten": forgotten}
    for monitor in monitors:
        monitor.kill()
        monitor.wait()


@pytest.fixture
def workspace(limited: dict[str, Submitted], cluster: Cluster, tmp_path: Path) -> Workspace:
    assert limited
    return new_workspace(tmp_path / "work", cluster)


def test_a_preempted_run_saves_in_its_grace_and_comes_back(
    workspace: Workspace, uninterrupted: dict[str, str]
) -> None:
    run = workspace.submit(*FREE)
    run.until(lambda: run.step() > 20)

    urgent = workspace.cluster.run(
        *("sbatch", "--parsable", "--partition=urgent", "--nodelist=a100-[3-4]", "--nodes=2", "--exclusive"),
        *("--time=2", "--output=/dev/null", "--wrap=sleep 3"),
    )

    assert run.until_over() == "finished", urgent
    assert [attempt.cause for attempt in run.history.attempts] == ["preempted", "finished"]
    _ends_like(run, uninterrupted, num_restarts=1)


def test_a_cancelled_run_saves_and_a_new_submit_continues_it(
    workspace: Workspace, uninterrupted: dict[str, str]
) -> None:
    run = workspace.submit(*FREE)
    run.until(lambda: run.step() > 20)

    workspace.cluster.run("scancel", run.job_id)
    assert run.until_over() == "cancelled"
    saved = run.history.committed_step
    again = workspace.submit(*FREE)

    assert again.paths == run.paths
    assert again.until_over() == "finished", again.story()
    assert [attempt.cause for attempt in again.history.attempts] == ["cancelled", "finished"]
    assert again.history.attempts[1].first_step == saved >= 20
    _ends_like(again, uninterrupted, num_restarts=0)


def test_cancelling_by_hpc_is_kept_in_the_ledger(workspace: Workspace) -> None:
    run = workspace.submit(*FREE)
    run.until(lambda: run.step() > 5)

    assert workspace.hpc("cancel", "crypto").returncode == 0

    assert run.until_over() == "cancelled"
    assert run.history.committed_step >= 5
    assert not _processes_after_a_while(workspace)


def test_a_rank_killed_with_9_ends_its_peers_and_the_run_goes_on(
    workspace: Workspace, uninterrupted: dict[str, str]
) -> None:
    run = workspace.submit(*FREE, "training.checkpoint_every_s=2")
    run.until(lambda: run.history.committed_step > 0)

    os.kill(_pid_of_rank(workspace, 3), signal.SIGKILL)

    assert run.until_over() == "finished", run.story()
    assert [attempt.cause for attempt in run.history.attempts] == ["killed by SIGKILL", "finished"]
    _ends_like(run, uninterrupted, num_restarts=1)


def test_a_second_submit_of_a_live_run_attaches(workspace: Workspace) -> None:
    run = workspace.submit(*FREE)
    run.until(lambda: run.step() > 0)

    again = workspace.submit(*FREE)

    assert again.paths == run.paths
    assert again.history.job_ids == run.history.job_ids
    workspace.hpc("cancel", "crypto")
    run.until_over()


def test_a_script_submitted_by_hand_from_a_hostile_directory_does_all_of_it(
    limited: dict[str, Submitted], cluster: Cluster, uninterrupted: dict[str, str], tmp_path: Path
) -> None:
    assert limited
    workspace = new_workspace(tmp_path / HOSTILE, cluster)
    rendered = workspace.hpc("render", "crypto", "--preset", "demo", *SETTINGS, *FREE)
    script = workspace.root / "j.sh"
    script.write_text(rendered.stdout)
    dry = workspace.hpc("submit", "crypto", "--preset", "demo", *SETTINGS, *FREE, "--dry-run")

    job_id = cluster.run("sh", "-c", 'cd "$1" && sbatch --parsable j.sh', "sh", str(workspace.root)).strip()
    (name,) = re.findall(r"--run-id (\S+)", rendered.stdout)
    run = Submitted(workspace, RunPaths(workspace.root / "runs" / "crypto" / name))
    run.until(lambda: run.step() > 20)
    cluster.run("scontrol", "requeue", job_id)

    assert dry.stdout == rendered.stdout == run.paths.job_script.read_text()
    assert run.until_over() == "finished", run.story()
    assert run.history.job_ids == (job_id,)
    assert len(run.history.attempts) == 2
    _same_numbers(run, uninterrupted)


def test_a_run_of_four_time_limits_has_one_checkpoint_and_one_requeue_for_each(
    limited: dict[str, Submitted], uninterrupted: dict[str, str]
) -> None:
    run = limited["requeued"]

    assert run.until_over(timeout_s=600) == "finished", run.story()
    assert len(run.history.attempts) >= 4
    assert {attempt.cause for attempt in run.history.attempts[:-1]} == {"deadline"}
    assert run.history.job_ids == (run.job_id,)
    _ends_like(run, uninterrupted, num_restarts=len(run.history.attempts) - 1)


def test_where_requeue_is_refused_successors_carry_the_run_on(
    limited: dict[str, Submitted], uninterrupted: dict[str, str]
) -> None:
    run = limited["succeeded"]

    assert run.until_over(timeout_s=600) == "finished", run.story()
    assert len(run.history.job_ids) == len(run.history.attempts) >= 4
    _ends_like(run, uninterrupted, num_restarts=0)


def test_without_accounting_it_is_all_the_same(
    limited: dict[str, Submitted], uninterrupted: dict[str, str]
) -> None:
    run = limited["unaccounted"]

    assert run.until_over(timeout_s=600) == "finished", run.story()
    assert len(run.history.attempts) >= 4
    _ends_like(run, uninterrupted, num_restarts=None)


@pytest.fixture(scope="module")
def pooled(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Return the fingerprint of each stock, trained in a pool of processes that nobody interrupted."""
    pool = new_workspace(tmp_path_factory.mktemp("slurm") / "pool", cluster)
    done = pool.hpc("submit", *STOCKS, "--local", "--wait", timeout_s=300)
    assert done.returncode == 0, done.stderr
    found = [RunPaths(path.parent) for path in pool.root.glob("runs/*/*/events.jsonl")]
    return {stock_of(paths): fingerprint(paths) for paths in found}


def stock_of(paths: RunPaths) -> str:
    return paths.run_id.split("-")[1]


def test_an_array_of_eight_stocks_is_interrupted_once_each_and_changes_no_bit(
    limited: dict[str, Submitted], pooled: dict[str, dict[str, str]]
) -> None:
    stocks = [run for name, run in limited.items() if name.startswith("stock ")]

    assert [run.until_over(timeout_s=600) for run in stocks] == ["finished"] * 8, stocks[0].story()
    for task, run in enumerate(stocks):
        assert [attempt.cause for attempt in run.history.attempts] == ["deadline", "finished"]
        assert run.history.job_ids == (f"{stocks[0].job_id.partition('_')[0]}_{task}",)
        assert fingerprint(run.paths) == pooled[stock_of(run.paths)], run.story()


def test_where_requeue_is_refused_a_successor_carries_one_run_of_an_array_on(
    limited: dict[str, Submitted], pooled: dict[str, dict[str, str]]
) -> None:
    for task, run in enumerate((limited["successor 0"], limited["successor 1"])):
        assert run.until_over(timeout_s=600) == "finished", run.story()
        first, second = run.history.job_ids
        assert first.endswith(f"_{task}")
        assert "_" not in second
        assert run.history.array is not None
        assert fingerprint(run.paths) == pooled[stock_of(run.paths)], run.story()


def test_cancelling_a_case_ends_its_whole_array_and_to_submit_goes_on_with_the_rest(
    workspace: Workspace,
) -> None:
    words = (
        *(*STOCKS, "--only", "AAPL,JNJ", "resources.exclude=a100-[1-2]"),
        *("training.max_steps=50", "training.min_step_s=0.15"),
    )
    runs = workspace.submitted(*words, "array.at_once=1")
    first, second = runs
    first.until(lambda: first.step() > 2)
    assert second.view()["state"] == "waiting"

    assert workspace.hpc("cancel", "per_stock").returncode == 0

    assert [run.until_over() for run in runs] == ["cancelled"] * 2
    assert first.history.committed_step > 2
    assert second.history.attempts == ()
    again = workspace.hpc("submit", *words, "--wait")
    assert again.returncode == 0, again.stdout + again.stderr
    assert first.history.attempts[1].first_step == first.history.attempts[0].committed_step


def test_a_node_that_is_lost_costs_no_number_and_its_zombies_write_nothing(
    limited: dict[str, Submitted], cluster: Cluster, uninterrupted: dict[str, str], tmp_path: Path
) -> None:
    for run in (limited["requeued"], limited["succeeded"]):
        run.until_over(timeout_s=600)
    workspace = new_workspace(tmp_path / "work", cluster)
    run = workspace.submit(
        "training.min_step_s=0.3", "training.checkpoint_every_s=2", "resources.exclude=a100-1"
    )
    run.until(lambda: run.history.committed_step > 0)
    lost = run.history.attempts[0].nodes[-1]

    assert cluster.devcluster("kill-node", lost).returncode == 0
    try:
        state = run.until_over()
    finally:
        assert cluster.devcluster("start-node", lost).returncode == 0

    assert state == "finished", run.story()
    first, second = run.history.attempts
    assert first.cause == "node failure"
    assert lost not in second.nodes
    _same_numbers(run, uninterrupted)
    assert not _processes_after_a_while(workspace)


def test_without_accounting_a_cancelled_job_is_known_as_such_after_slurm_forgot_it(
    limited: dict[str, Submitted],
) -> None:
    run = limited["forgotten"]
    run.until(lambda: scheduler_forgot(run), timeout_s=180)

    assert run.view()["state"] == "cancelled"


def scheduler_forgot(run: Submitted) -> bool:
    time.sleep(1)
    queued = run.workspace.cluster.run("squeue", "--noheader", "--states=all", "--format=%i")
    return run.job_id not in queued.split()


def _ends_like(run: Submitted, uninterrupted: dict[str, str], *, num_restarts: int | None) -> None:
    """The same numbers, one checkpoint for each stop, as many requeues, nobody killed or left behind."""
    _same_numbers(run, uninterrupted)
    rows = Ledger(run.paths.events).rows()
    for attempt in run.history.attempts[:-1]:
        own = [row for row in rows if row.get("attempt") == attempt.number]
        agreed = [row for row in own if row["kind"] == "stop_agreed"]
        saved = [row for row in own if row["kind"] == "checkpoint" and row["reason"] == "stop"]
        ended = [row for row in own if row["kind"] == "attempt_ended"]
        assert len(agreed) == len(saved) <= 1
        assert len(ended) == 1
        if saved:
            assert ended[0]["time"] - saved[0]["time"] < KILL_WAIT_S
    if num_restarts is not None:
        job = run.workspace.cluster.run("scontrol", "show", "job", run.job_id)
        assert f"Restarts={num_restarts} " in job
    assert not _processes_after_a_while(run.workspace)


def _same_numbers(run: Submitted, uninterrupted: dict[str, str]) -> None:
    assert fingerprint(run.paths) == uninterrupted
    assert run.paths.report.exists()


def _processes_after_a_while(workspace: Workspace) -> list[str]:
    deadline = time.monotonic() + 15
    while (found := processes_of(workspace)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def _pid_of_rank(workspace: Workspace, rank: int) -> int:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_there = (process / "cwd").resolve() == workspace.root.resolve()
            environ = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if is_there and b"stockpred" in command and f"SLURM_PROCID={rank}".encode() in environ:
            return int(process.name)
    raise AssertionError(f"rank {rank} is not there")
