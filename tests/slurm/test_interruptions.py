"""Runs on a real Slurm, 2 nodes x 2 ranks, interrupted in every way; all end with the same numbers.

A run waits at a step, on all of its ranks, until the test has done to it what it came for.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.run.paths import RunPaths
from tests.slurm.clusters import Cluster, refuse_without_slurm, running_cluster
from tests.slurm.endings import assert_ends_like, assert_same_numbers
from tests.slurm.workspaces import (
    SETTINGS,
    STOCKS,
    Submitted,
    Workspace,
    fingerprint,
    new_workspace,
    processes_after_a_while,
)

pytestmark = pytest.mark.slurm

HOSTILE = 'it\'s a "work" space\nof $HOME; 100%'
STEP = 21
OFTEN = "training.checkpoint_every_s=0"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster that gives a loaded machine the time to save; a node is missed after 10 s."""
    refuse_without_slurm()
    with running_cluster("events", "--min-job-age", "3600", "--kill-wait", "30", "--grace", "60") as running:
        yield running


@pytest.fixture(scope="module")
def uninterrupted(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run = new_workspace(tmp_path_factory.mktemp("slurm") / "whole", cluster).submit()
    assert run.until_over() == "finished", run.story()
    assert len(run.history.attempts) == 1
    return fingerprint(run.paths)


@pytest.fixture
def workspace(cluster: Cluster, tmp_path: Path) -> Workspace:
    return new_workspace(tmp_path / "work", cluster)


@pytest.fixture
def held(workspace: Workspace) -> Submitted:
    """Return a run that waits at a step."""
    workspace.hold(STEP)
    run = workspace.submit()
    run.until_held(STEP)
    return run


def test_a_preempted_run_saves_in_its_grace_and_comes_back(
    held: Submitted, uninterrupted: dict[str, str]
) -> None:
    nodes = ",".join(held.history.attempts[0].nodes)
    urgent = held.workspace.cluster.run(
        *("sbatch", "--parsable", "--partition=urgent", f"--nodelist={nodes}", "--nodes=2", "--exclusive"),
        *("--time=2", "--output=/dev/null", "--wrap=sleep 3"),
    )

    assert held.until_over() == "finished", urgent
    assert [attempt.cause for attempt in held.history.attempts] == ["preempted", "finished"]
    assert_ends_like(held, uninterrupted, num_restarts=1)


def test_a_cancelled_run_saves_and_a_new_submit_continues_it(
    held: Submitted, uninterrupted: dict[str, str]
) -> None:
    held.workspace.cluster.run("scancel", held.job_id)
    assert held.until_over() == "cancelled"
    again = held.workspace.submit()

    assert again.paths == held.paths
    assert again.until_over() == "finished", again.story()
    assert [attempt.cause for attempt in again.history.attempts] == ["cancelled", "finished"]
    assert [attempt.first_step for attempt in again.history.attempts] == [None, STEP]
    assert_ends_like(again, uninterrupted, num_restarts=0)


def test_a_rank_killed_with_9_ends_its_peers_and_the_run_goes_on(
    workspace: Workspace, uninterrupted: dict[str, str]
) -> None:
    workspace.hold(STEP)
    run = workspace.submit(OFTEN)
    run.until_held(STEP)
    saved = run.history.committed_step

    os.kill(pid_of_rank(workspace, 3), signal.SIGKILL)
    workspace.release()

    assert run.until_over() == "finished", run.story()
    assert [attempt.cause for attempt in run.history.attempts] == ["killed by SIGKILL", "finished"]
    assert run.history.attempts[1].first_step >= saved > 0
    assert_ends_like(run, uninterrupted, num_restarts=1)


def test_a_second_submit_of_a_live_run_attaches_and_cancelling_by_hpc_is_kept_in_the_ledger(
    held: Submitted,
) -> None:
    again = held.workspace.submit()

    assert again.paths == held.paths
    assert again.history.job_ids == held.history.job_ids
    assert len(again.history.attempts) == 1

    assert held.workspace.hpc("cancel", "crypto").returncode == 0

    assert held.until_over() == "cancelled"
    assert held.history.committed_step == STEP
    assert not processes_after_a_while(held.workspace)


def test_a_script_submitted_by_hand_from_a_hostile_directory_does_all_of_it(
    cluster: Cluster, uninterrupted: dict[str, str], tmp_path: Path
) -> None:
    workspace = new_workspace(tmp_path / HOSTILE, cluster)
    workspace.hold(STEP)
    rendered = workspace.hpc("render", "crypto", "--preset", "demo", *SETTINGS)
    script = workspace.root / "j.sh"
    script.write_text(rendered.stdout)
    dry = workspace.hpc("submit", "crypto", "--preset", "demo", *SETTINGS, "--dry-run")

    job_id = workspace.run("sbatch", "--parsable", "j.sh").strip()
    (name,) = re.findall(r"--run-id (\S+)", rendered.stdout)
    run = Submitted(workspace, RunPaths(workspace.root / "runs" / "crypto" / name))
    run.until_held(STEP)
    cluster.run("scontrol", "requeue", job_id)

    assert dry.stdout == rendered.stdout == run.paths.job_script.read_text()
    assert run.until_over() == "finished", run.story()
    assert run.history.job_ids == (job_id,)
    assert len(run.history.attempts) == 2
    assert_same_numbers(run, uninterrupted)


def test_cancelling_a_case_ends_its_whole_array_and_to_submit_goes_on_with_the_rest(
    workspace: Workspace,
) -> None:
    words = (*STOCKS, "--only", "AAPL,JNJ", "training.max_steps=50")
    workspace.hold(3)
    runs = workspace.submitted(*words, "array.at_once=1")
    first, second = runs
    first.until_held(3)
    assert second.view()["state"] == "waiting"

    assert workspace.hpc("cancel", "per_stock").returncode == 0

    assert [run.until_over() for run in runs] == ["cancelled"] * 2
    assert first.history.committed_step == 3
    assert second.history.attempts == ()
    workspace.release()
    again = workspace.hpc("submit", *words, "--wait")
    assert again.returncode == 0, again.stdout + again.stderr
    assert first.history.attempts[1].first_step == first.history.attempts[0].committed_step


def test_a_node_that_is_lost_costs_no_number_and_its_zombies_write_nothing(
    workspace: Workspace, uninterrupted: dict[str, str]
) -> None:
    workspace.hold(STEP)
    run = workspace.submit(OFTEN, "resources.exclude=a100-1")
    run.until_held(STEP)
    lost = run.history.attempts[0].nodes[-1]

    assert workspace.cluster.devcluster("kill-node", lost).returncode == 0
    try:
        run.until_attempt(2)
        workspace.release()
        state = run.until_over()
    finally:
        assert workspace.cluster.devcluster("start-node", lost).returncode == 0

    assert state == "finished", run.story()
    first, second = run.history.attempts
    assert first.cause == "node failure"
    assert lost not in second.nodes
    assert_same_numbers(run, uninterrupted)
    assert not processes_after_a_while(workspace)


def pid_of_rank(workspace: Workspace, rank: int) -> int:
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
