"""Install what a cluster needs from Debian's archive, without letting the packages start services."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layout import ClusterError, search_path

PACKAGES = {
    "munged": "munge",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
}
ACCOUNTING_ONLY = ("slurmdbd", "mariadbd")
START_POLICY = Path("/usr/sbin/policy-rc.d")


def missing(*, accounting: bool) -> list[str]:
    """Return the packages that are not installed yet."""
    needed = [program for program in PACKAGES if accounting or program not in ACCOUNTING_ONLY]
    absent = [program for program in needed if shutil.which(program, path=search_path()) is None]
    return sorted({PACKAGES[program] for program in absent})


def install(packages: list[str]) -> None:
    """Install packages with apt-get; raise where this cannot be done."""
    by_hand = f"apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise ClusterError(f"no apt-get here; install by other means what Debian calls {' '.join(packages)}")
    if os.geteuid() != 0:
        raise ClusterError(f"only root can install packages; run: sudo {by_hand}")
    with services_kept_quiet():
        for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *packages]):
            run_apt(command, by_hand)


def run_apt(command: list[str], by_hand: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"apt-get {command[0]} failed; run yourself: {by_hand}\n{done.stderr.strip()}")


@contextmanager
def services_kept_quiet() -> Iterator[None]:
    """Forbid package scripts to start services for the moment (Debian policy, section 9.3.3)."""
    if START_POLICY.exists():
        yield
        return
    START_POLICY.write_text("#!/bin/sh\nexit 101\n")
    START_POLICY.chmod(0o755)
    try:
        yield
    finally:
        START_POLICY.unlink()
