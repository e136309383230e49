"""The only place of the launcher that starts processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Process = subprocess.Popen[bytes]
"""A started process, for those who wait for it."""

SLURM_PREFIXES = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_", "SQUEUE_", "SINFO_")
KEPT_FROM_SLURM = ("SLURM_CONF",)


@dataclass(frozen=True)
class Completed:
    """What a finished command said."""

    code: int
    out: str
    err: str

    @property
    def is_ok(self) -> bool:
        return self.code == 0


def run(
    command: Sequence[str],
    *,
    timeout_s: float = 60.0,
    stdin: str | None = None,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Completed:
    """Run a command to its end; a missing program answers 127, one over its time 124."""
    try:
        done = subprocess.run(
            list(command),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd=cwd,
            env=None if environ is None else dict(environ),
            check=False,
        )
    except FileNotFoundError:
        return Completed(127, "", f"{command[0]}: not found")
    except subprocess.TimeoutExpired:
        return Completed(124, "", f"{command[0]}: no answer within {timeout_s:.0f} s")
    return Completed(done.returncode, done.stdout, done.stderr)


def start(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    cwd: Path | None = None,
    log: Path | None = None,
    own_session: bool = False,
) -> Process:
    """Start a command and return at once; its output is appended to ``log`` where one is given.

    A command in its own session outlives the terminal and does not hear its Ctrl-C.
    """
    if log is None:
        return subprocess.Popen(
            list(command),
            env=dict(environ),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            start_new_session=own_session,
        )
    with log.open("ab") as file:
        return subprocess.Popen(
            list(command),
            env=dict(environ),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=own_session,
        )


def has(program: str) -> bool:
    return shutil.which(program) is not None


def without_slurm(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment without what an enclosing job left behind.

    A job that inherits SLURM_CPU_BIND, SLURM_MEM_PER_CPU and their like is pinned to the wrong cores or
    refused. SLURM_CONF stays: it says which cluster to talk to.
    """
    environ = os.environ if environ is None else environ
    return {
        name: value
        for name, value in environ.items()
        if name in KEPT_FROM_SLURM or not name.startswith(SLURM_PREFIXES)
    }
