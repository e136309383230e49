"""Discovery, against programs that print what a real Slurm printed."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from hpc.base.errors import ExitCode, UserError
from hpc.slurm import cluster
from hpc.slurm.cluster import Cluster

TEXTS = Path(__file__).parent / "slurm_text"
NO_CONFIGURATION = """sinfo: error: fetch_config: DNS SRV lookup failed
sinfo: fatal: Could not establish a configuration source"""
DOWN = "Slurmctld(primary) at ctl1 is DOWN"

SCONTROL = """#!/bin/bash
case "$1 $2" in
    "ping ") {ping} ;;
    "show partition") cat {texts}/partitions.txt ;;
    "show config") cat {texts}/config.txt ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory at the head of PATH with Slurm's programs in it."""
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    write(tmp_path / "sbatch", "#!/bin/bash\n")
    write(tmp_path / "sinfo", f"#!/bin/bash\ncat {TEXTS}/sinfo.txt\n")
    answers(tmp_path, "echo 'Slurmctld(primary) at ctl1 is UP'")
    return tmp_path


def write(path: Path, script: str) -> None:
    path.write_text(script)
    path.chmod(0o755)


def answers(programs: Path, ping: str) -> None:
    write(programs / "scontrol", SCONTROL.format(ping=ping, texts=TEXTS))


def test_a_cluster_that_answers_is_discovered(programs: Path, lab: Cluster) -> None:
    assert cluster.slurm_is_here()
    assert cluster.discover() == lab


def test_what_was_discovered_is_what_the_nodes_have(lab: Cluster) -> None:
    assert lab.name == "lab"
    assert [partition.name for partition in lab.partitions] == ["long", "urgent", "cpu"]
    assert lab.partition(None) == lab.partition("long")
    assert lab.partition("nowhere") is None
    assert lab.partitions[0].num_nodes == 4
    assert math.isinf(lab.partitions[2].max_limit_s)
    assert lab.lets_requeue


def test_the_summary_has_a_line_for_each_partition(lab: Cluster) -> None:
    lines = lab.summary().splitlines()

    assert (
        lines[1].strip().startswith("urgent: 4 nodes (4 idle): 4 with 8 a100, 128 CPUs, 500 GB; up to 1h 00m")
    )
    assert lines[2].strip() == "cpu: 1 node (0 idle): 1 with 16 CPUs, 62 GB; no time limit"


def test_programs_without_a_configuration_are_no_slurm(programs: Path) -> None:
    answers(programs, f"echo '{NO_CONFIGURATION}' >&2; exit 1")

    assert not cluster.slurm_is_here()
    assert cluster.discover() is None


def test_without_programs_there_is_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))

    assert not cluster.slurm_is_here()


def test_a_cluster_that_is_down_is_an_error_and_not_a_missing_one(programs: Path) -> None:
    answers(programs, f"echo '{DOWN}'; exit 1")

    with pytest.raises(UserError, match="is DOWN") as caught:
        cluster.slurm_is_here()

    assert caught.value.exit_code is ExitCode.NO_SLURM


def test_a_configuration_that_is_not_there_is_an_error(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "gone.conf"))

    with pytest.raises(UserError, match="does not exist"):
        cluster.slurm_is_here()
