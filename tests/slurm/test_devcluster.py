"""The development cluster behaves as a Slurm does, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.slurm.clusters import (
    Cluster,
    bring_up,
    devcluster,
    environment,
    refuse_without_slurm,
    running_cluster,
    surely_down,
)

pytestmark = pytest.mark.slurm

WAIT_S = 300.0
"""Nothing waits for it to pass: it ends what hangs."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    refuse_without_slurm()
    with running_cluster("test", "--min-job-age", "1200") as running:
        yield running


@pytest.fixture(scope="module")
def cluster_without_accounting() -> Iterator[Cluster]:
    """A second one, beside the first, as on sites without slurmdbd."""
    refuse_without_slurm()
    with running_cluster("bare", "--no-accounting") as running:
        yield running


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Return an empty directory with a path short enough for sockets."""
    with TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:
        yield Path(name)


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def submit(cluster: Cluster, *options: str, body: str, log: Path) -> str:
    script = f"#!/bin/bash\n{body}\n"
    command = ["sbatch", "--parsable", "--open-mode=append", f"--output={log}", *options]
    return subprocess.run(
        command, input=script, env=cluster.env, cwd="/", capture_output=True, text=True, check=True
    ).stdout.strip()


def state(cluster: Cluster, job: str) -> tuple[str, str]:
    """Return JobState and Reason."""
    found = re.search(r"JobState=(\w+) Reason=(\w+)", cluster.run("scontrol", "show", "job", job))
    assert found
    return found[1], found[2]


def test_there_are_four_nodes_with_eight_a100s(cluster: Cluster) -> None:
    rows = cluster.run("sinfo", "-h", "-N", "-p", "long", "-o", "%N %G").split("\n")

    assert rows[:4] == [f"a100-{number} gpu:a100:8" for number in (1, 2, 3, 4)]


def test_the_partitions_have_their_limits_and_priorities(cluster: Cluster) -> None:
    limits = dict(row.split() for row in cluster.run("sinfo", "-h", "-o", "%P %l").splitlines())

    assert limits == {"long*": "7-00:00:00", "medium": "3-00:00:00", "urgent": "1-00:00:00"}
    assert "PriorityTier=10" in cluster.run("scontrol", "show", "partition", "urgent")


def test_tasks_see_the_gpus_that_they_were_given(cluster: Cluster) -> None:
    said = cluster.run(
        "srun",
        "-N2",
        "--ntasks-per-node=2",
        "--gres=gpu:a100:2",
        "sh",
        "-c",
        "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES",
    ).splitlines()

    nodes = sorted(line.split()[0] for line in said)
    assert len(said) == 4
    assert nodes[0] == nodes[1] != nodes[2] == nodes[3]
    assert all(re.fullmatch(r"\d,\d", line.split()[1]) for line in said)


def test_accounting_remembers_a_job(cluster: Cluster, tmp_path: Path) -> None:
    job = submit(cluster, body="exit 3", log=tmp_path / "log")

    wait_until(lambda: "FAILED|3:0" in cluster.run("sacct", "-XnPj", job, "-o", "State,ExitCode"))


def test_an_urgent_job_preempts_and_the_victim_is_requeued(cluster: Cluster, tmp_path: Path) -> None:
    urgent_log, begun, warned = tmp_path / "urgent", tmp_path / "begun", tmp_path / "warned"
    whole_node = ("-w", "a100-4", "--gres=gpu:a100:8")
    # Files of its own: what a task prints last may be lost with a step that is killed in the same second.
    task = f'trap "touch {warned}; exit 85" TERM; touch {begun}_${{SLURM_RESTART_COUNT:-0}}; sleep 600 & wait'
    body = f"srun sh -c '{task}'\nscontrol requeue $SLURM_JOB_ID"
    victim = submit(cluster, *whole_node, body=body, log=tmp_path / "log")
    wait_until(begun.with_name("begun_0").exists)

    urgent = submit(cluster, "-p", "urgent", *whole_node, body="echo ran", log=urgent_log)
    wait_until(lambda: state(cluster, urgent)[0] == "COMPLETED")
    wait_until(lambda: state(cluster, victim) == ("PENDING", "BeginTime"))
    time.sleep(3)  # within the second of its requeue a restart is refused: the credential is just revoked
    cluster.run("scontrol", "update", f"JobId={victim}", "StartTime=now")
    wait_until(begun.with_name("begun_1").exists)
    cluster.run("scancel", victim)

    assert warned.exists()
    assert urgent_log.read_text() == "ran\n"


def test_a_killed_node_goes_down_and_comes_back(cluster: Cluster) -> None:
    def node() -> str:
        return cluster.run("sinfo", "-h", "-n", "a100-3", "-p", "long", "-o", "%T").strip()

    assert cluster.devcluster("kill-node", "a100-3").returncode == 0
    assert cluster.devcluster("status").returncode == 1
    wait_until(lambda: node() == "down*")
    assert cluster.devcluster("start-node", "a100-3").returncode == 0
    wait_until(lambda: node() == "idle")

    wait_until(lambda: cluster.devcluster("status").returncode == 0)


def test_up_again_changes_nothing(cluster: Cluster) -> None:
    before = daemons(cluster)

    assert cluster.devcluster("up").returncode == 0
    assert daemons(cluster) == before


def daemons(cluster: Cluster) -> dict[str, str]:
    """Return the pid of each daemon; what the nodes do at the moment is left out."""
    rows = [line.split() for line in cluster.devcluster("status").stdout.splitlines()]
    return {name: f"{kind} {pid}" for name, kind, pid, *_ in rows}


def test_a_second_cluster_runs_beside_the_first(
    cluster: Cluster, cluster_without_accounting: Cluster
) -> None:
    assert cluster_without_accounting.run("srun", "hostname") == cluster.run("srun", "hostname")

    refused = subprocess.run(
        ["sacct"], env=cluster_without_accounting.env, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "accounting storage is disabled" in refused.stderr


def test_taken_ports_are_named_and_nothing_is_started(cluster: Cluster, short_dir: Path) -> None:
    ports = re.findall(r"SlurmctldPort=(\d+)", (cluster.dir / "slurm.conf").read_text())[0]

    refused = devcluster("up", "--dir", str(short_dir / "c"), "--name", "late", "--ports-from", ports)

    assert refused.returncode == 1
    assert f"port {ports} is taken" in refused.stderr
    assert not (short_dir / "c").exists()


def test_down_ends_daemons_and_runaway_tasks_and_removes_the_directory(
    short_dir: Path, tmp_path: Path
) -> None:
    refuse_without_slurm()
    directory, nap = short_dir / "c", f"sleep {3600 + os.getpid()}.5"
    where = ("--dir", str(directory), "--name", "brief")
    with surely_down(directory):
        bring_up(directory, "--name", "brief", "--no-accounting")
        here = Cluster(directory, environment(directory))
        submit(here, body=f"trap '' TERM; (setsid {nap} &); srun {nap}", log=tmp_path / "log")
        wait_until(lambda: len([line for line in processes(nap) if "srun" not in line]) >= 2)
        devcluster("kill-node", "a100-1", *where)

        assert devcluster("down", *where).returncode == 0

        assert not directory.exists()
        assert processes(nap) == []
        assert processes(f"{directory}/") == []
        assert str(directory) not in Path("/proc/mounts").read_text()


def processes(text: str) -> list[str]:
    """Return the command lines that hold ``text``; those of zombies are empty."""
    lines = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if text in line and "pytest" not in line:
            lines.append(line)
    return lines
