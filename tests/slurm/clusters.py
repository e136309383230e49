"""Real Slurms for the tests: four nodes with eight fake A100s each, beside any other that runs here."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

DEVCLUSTER = Path(__file__).resolve().parents[2] / "slurm" / "devcluster"
NUM_PORTS = 6
# Below the range from which the kernel gives ports to everybody (32768), above Slurm's own (6817-6819).
PORTS = range(21000, 31000, NUM_PORTS)
PORTS_APART = 37
"""Processes with neighbouring pids, such as the workers of one test run, look for ports this far apart."""

NUM_TRIES = 3
COMMAND_TIMEOUT_S = 900.0
"""No wait for anything: it ends what hangs, so it is far above what a loaded machine needs."""

NO_SLURM = {"SLURM_CONF": os.devnull}
"""The environment of a machine without a Slurm, even while one runs there."""


@dataclass(frozen=True)
class Cluster:
    """A running development cluster."""

    dir: Path
    env: dict[str, str]

    def run(self, *command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Return what a command prints in this cluster's environment; raise if it fails."""
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=timeout_s, check=True
        ).stdout

    def devcluster(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return devcluster(verb, "--dir", str(self.dir), *arguments)


def devcluster(verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEVCLUSTER), verb, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)


def free_ports() -> int:
    """Return the first of six ports in a row that nobody listens on."""
    first = os.getpid() * PORTS_APART % len(PORTS)
    for start in (*PORTS[first:], *PORTS[:first]):
        if all(is_free(port) for port in range(start, start + NUM_PORTS)):
            return int(start)
    raise RuntimeError("no six free ports in a row")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def running_cluster(name: str, *arguments: str) -> Iterator[Cluster]:
    """Bring a private cluster up and surely down again."""
    directory = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short enough for sockets
    with surely_down(directory):
        bring_up(directory, "--name", name, *arguments)
        yield Cluster(directory, environment(directory))


@contextmanager
def surely_down(directory: Path) -> Iterator[None]:
    """Take the cluster of a directory down in the end, even if this process is killed meanwhile."""
    guard = subprocess.Popen(
        [sys.executable, str(DEVCLUSTER), "down", "--dir", str(directory), "--after", str(os.getpid())],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.wait()
        devcluster("down", "--dir", str(directory))
        shutil.rmtree(directory, ignore_errors=True)


def bring_up(directory: Path, *arguments: str) -> None:
    """Start a cluster on free ports; look again when others were quicker to take them."""
    for _ in range(NUM_TRIES):
        ports = str(free_ports())
        done = devcluster("up", "--dir", str(directory), "--ports-from", ports, *arguments)
        if done.returncode == 0:
            return
        if " is taken " not in done.stderr:
            break
    logs = "\n".join(f"{log}:\n{log.read_text()[-1500:]}" for log in sorted(directory.glob("logs/*")))
    pytest.fail(f"the cluster did not start:\n{done.stderr}\n{logs}")


def environment(directory: Path) -> dict[str, str]:
    """Return this process' environment, pointed at the cluster and at no other."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SRUN"))
    }
    return {**kept, "SLURM_CONF": str(directory / "slurm.conf")}


def refuse_without_slurm() -> None:
    """Skip where Slurm is not installed; fail where it must be (REQUIRE_SLURM, as in .ci/run)."""
    needed: Sequence[str] = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "sbatch")
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    absent = [program for program in needed if shutil.which(program, path=path) is None]
    if absent and os.environ.get("REQUIRE_SLURM"):
        pytest.fail(f"REQUIRE_SLURM is set, but these are missing: {', '.join(absent)}")
    if absent:
        pytest.skip("Slurm is not installed")
