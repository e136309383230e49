"""Runs on a real Slurm, on two nodes, interrupted in every way; all end with the same numbers.

A run waits at a step, on all of its ranks, until the test has done to it what it came for. One run has two
ranks on each of its nodes, the others have one: most of what an attempt costs is the start of its ranks.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hpc.base import records
from hpc.run.paths import RunPaths
from tests.processes import working_in
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
STEP, LATER = 21, 42
TWO_RANKS = "resources.gpus=1"
PATIENT = ("--kill-wait", "30", "--grace", "60", "--slurmd-timeout", "30")
OFTEN = "training.checkpoint_every_s=0"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster that gives a loaded machine the time to save, and misses a node after half a minute."""
    refuse_without_slurm()
    with running_cluster("events", "--min-job-age", "3600", *PATIENT) as running:
        yield running


@pytest.fixture(scope="module")
def uninterrupted(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    whole = new_workspace(tmp_path_factory.mktemp("slurm") / "whole", cluster)
    return numbers_of(whole.submit(TWO_RANKS))


@pytest.fixture(scope="module")
def uninterrupted_with_four_ranks(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    return numbers_of(new_workspace(tmp_path_factory.mktemp("slurm") / "four", cluster).submit())


def numbers_of(run: Submitted) -> dict[str, str]:
    assert run.until_over() == "finished", run.story()
    assert len(run.history.attempts) == 1
    return fingerprint(run.paths)


@pytest.fixture
def workspace(cluster: Cluster, tmp_path: Path) -> Workspace:
    return new_workspace(tmp_path / "work", cluster)


def test_a_preempted_run_of_four_ranks_saves_in_its_grace_and_comes_back(
    workspace: Workspace, uninterrupted_with_four_ranks: dict[str, str]
) -> None:
    workspace.hold(STEP)
    run = workspace.submit()
    run.until_held(STEP)
    nodes = ",".join(run.history.attempts[0].nodes)
    urgent = workspace.cluster.run(
        *("sbatch", "--parsable", "--partition=urgent", f"--nodelist={nodes}", "--nodes=2", "--exclusive"),
        *("--time=2", "--output=/dev/null", "--wrap=sleep 3"),
    )

    assert run.until_over() == "finished", urgent
    assert [attempt.cause for attempt in run.history.attempts] == ["preempted", "finished"]
    assert_ends_like(run, uninterrupted_with_four_ranks, num_restarts=1)


def test_a_second_submit_of_a_live_run_attaches_and_one_after_a_cancellation_continues_it(
    workspace: Workspace, uninterrupted: dict[str, str]
) -> None:
    workspace.hold(STEP)
    run = workspace.submit(TWO_RANKS)
    run.until_held(STEP)

    attached = workspace.submit(TWO_RANKS)

    assert attached.paths == run.paths
    assert len(run.history.job_ids) == len(run.history.attempts) == 1

    workspace.cluster.run("scancel", run.job_id)
    assert run.until_over() == "cancelled"
    assert not processes_after_a_while(workspace)
    continued = workspace.submit(TWO_RANKS)

    assert continued.paths == run.paths
    assert continued.until_over() == "finished", run.story()
    assert [attempt.cause for attempt in run.history.attempts] == ["cancelled", "finished"]
    assert [attempt.first_step for attempt in run.history.attempts] == [None, STEP]
    assert_ends_like(continued, uninterrupted, num_restarts=0)


def test_a_script_submitted_by_hand_from_a_hostile_directory_outlives_a_requeue_and_a_killed_rank(
    cluster: Cluster, uninterrupted: dict[str, str], tmp_path: Path
) -> None:
    workspace = new_workspace(tmp_path / HOSTILE, cluster)
    workspace.hold(STEP, LATER)
    chosen = ("crypto", "--preset", "demo", *SETTINGS, TWO_RANKS, OFTEN)
    rendered = workspace.hpc("render", *chosen)
    dry = workspace.hpc("submit", *chosen, "--dry-run")
    (workspace.root / "j.sh").write_text(rendered.stdout)

    job_id = workspace.run("sbatch", "--parsable", "j.sh").strip()
    (name,) = re.findall(r"--run-id (\S+)", rendered.stdout)
    run = Submitted(workspace, RunPaths(workspace.root / "runs" / "crypto" / name))
    run.until_held(STEP)
    cluster.run("scontrol", "requeue", job_id)
    run.until_attempt(2)
    run.until_held(LATER, attempt=2)
    saved = run.history.committed_step
    os.kill(pid_of_rank(workspace, 1), signal.SIGKILL)
    workspace.release()

    assert dry.stdout == rendered.stdout == run.paths.job_script.read_text()
    assert run.until_over() == "finished", run.story()
    assert run.history.job_ids == (job_id,)
    _, killed, last = run.history.attempts
    assert (killed.cause, last.cause) == ("killed by SIGKILL", "finished")
    assert last.first_step >= saved > STEP
    assert_same_numbers(run, uninterrupted)
    assert not processes_after_a_while(workspace)


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
    assert not processes_after_a_while(workspace)
    assert second.history.attempts == ()
    workspace.release()
    again = workspace.hpc("submit", *words, "--wait")
    assert again.returncode == 0, again.stdout + again.stderr
    assert first.history.attempts[1].first_step == first.history.attempts[0].committed_step


def test_the_folds_of_a_walk_are_an_array_whose_tests_follow_each_other(workspace: Workspace) -> None:
    words = ("data.symbol=AAPL", "data.folds.number=3", "array.key=data.fold", "training.max_steps=8")
    runs = workspace.submitted(*STOCKS, *words)

    assert [run.until_over() for run in runs] == ["finished"] * 3
    tests = [records.read_json(run.paths.data_info)["fold"]["test"] for run in runs]
    spans = [(span["start"], span["end"]) for (span,) in tests]
    assert spans == sorted(spans)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))
    looked_at = [json.loads(run.paths.test_results.read_text())["num_looks"] for run in runs]
    assert looked_at == [1, 1, 1]  # no bar is tested twice
    run_dirs = [str(run.paths.root) for run in runs]
    told = workspace.run(sys.executable, "-m", "stockpred", "summary", "--out", "walk", *run_dirs)
    assert all(f"AAPL fold {number}" in told for number in (1, 2, 3))


def test_a_node_that_is_lost_costs_no_number_and_its_zombies_write_nothing(
    workspace: Workspace, uninterrupted: dict[str, str]
) -> None:
    workspace.hold(STEP)
    run = workspace.submit(TWO_RANKS, OFTEN, "resources.exclude=a100-1")
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
    for process in working_in(workspace.root):
        with contextlib.suppress(psutil.Error):
            if "stockpred" in process.cmdline() and process.environ().get("SLURM_PROCID") == str(rank):
                return int(process.pid)
    raise AssertionError(f"rank {rank} is not there")
