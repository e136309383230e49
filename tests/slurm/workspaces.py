"""Workspaces of their own for runs on a real Slurm, and what is compared when the runs are over."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hpc.base import records
from hpc.run.history import History, Ledger
from hpc.run.paths import RunPaths
from tests.holds import control
from tests.holds.control import PROJECT, PYTHONPATH
from tests.slurm.clusters import COMMAND_TIMEOUT_S, Cluster

# Four ranks on two nodes; 260 windows make 4 steps a pass, so 64 passes are 260 steps.
SETTINGS = (
    "data.synthetic.num_bars=400",
    "model.d_model=32",
    "model.num_layers=1",
    "training.batch_size=16",
    "training.epochs=64",
    "training.patience=1000",
    "training.evaluations_per_epoch=0.5",
    "training.checkpoint_every_s=1000",
    "resources.nodes=2",
    "resources.gpus=2",
    "resources.cpus_per_gpu=1",
    "resources.memory_gb_per_gpu=4",
)

STOCKS = (
    *("per_stock", "--preset", "demo", "training.epochs=1000", "training.max_steps=200"),
    *("training.patience=1000", "training.checkpoint_every_s=1000"),
    *("resources.cpus_per_gpu=1", "resources.memory_gb_per_gpu=4"),
)

# These end what hangs; no test waits for them, so they are far above what a loaded machine needs.
WAIT_S = 600.0
RUN_S = 900.0
LEAVE_S = 60.0
ASK_EVERY_S = 3.0


@dataclass(frozen=True)
class Workspace:
    """A directory with the cases, from which a cluster is used as a person would."""

    root: Path
    cluster: Cluster

    @property
    def environ(self) -> dict[str, str]:
        return {**self.cluster.env, "PYTHONPATH": PYTHONPATH}

    def hpc(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._run(sys.executable, "-m", "hpc", *words)

    def run(self, *command: str) -> str:
        """Return what a command prints that a person types in here; raise if it fails."""
        done = self._run(*command)
        done.check_returncode()
        return done.stdout

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def start_hpc(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "hpc", *words]
        return subprocess.Popen(command, cwd=self.root, env=self.environ, stdout=subprocess.DEVNULL)

    def hold(self, *steps: int) -> None:
        control.hold(self.root, *steps)

    def release(self) -> None:
        control.release(self.root)

    def submit(self, *overrides: str) -> Submitted:
        (run,) = self.submitted("crypto", "--preset", "demo", *SETTINGS, *overrides)
        return run

    def submitted(self, *words: str) -> list[Submitted]:
        """Submit by `hpc submit`; return the runs in the order in which it names them."""
        done = self.hpc("submit", *words)
        assert done.returncode == 0, done.stderr
        names = [line.split()[0] for line in done.stdout.splitlines() if " as job " in line]
        return [Submitted(self, RunPaths(self.root / "runs" / name)) for name in names]


@dataclass(frozen=True)
class Submitted:
    """A run on its way."""

    workspace: Workspace
    paths: RunPaths

    @property
    def history(self) -> History:
        return Ledger(self.paths.events).history()

    @property
    def job_id(self) -> str:
        assert self.history.job_id is not None
        return self.history.job_id

    def view(self) -> dict[str, Any]:
        """Return what `hpc status` says; asking also lifts the hold of a requeued job."""
        done = self.workspace.hpc("status", self.paths.run_id, "--json")
        assert done.returncode == 0, done.stderr
        (view,) = json.loads(done.stdout)
        return dict(view)

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not is_so():
            assert time.monotonic() < deadline, self.story()
            time.sleep(0.2)

    def until_held(self, step: int, *, attempt: int = 1) -> None:
        """Wait until the run waits at a step that its workspace holds."""
        self.until(lambda: control.is_held(self.paths, attempt=attempt, step=step))

    def until_attempt(self, number: int) -> None:
        """Wait until this attempt has begun; like a monitor, lift holds meanwhile."""
        deadline = time.monotonic() + WAIT_S
        while len(self.history.attempts) < number:
            self._ask_after_a_while()
            assert time.monotonic() < deadline, self.story()

    def until_over(self) -> str:
        """Ask every three seconds how it goes, as a monitor does; return the last state."""
        deadline = time.monotonic() + RUN_S
        while (state := self._ask_after_a_while()) not in ("finished", "failed", "cancelled", "lost"):
            assert time.monotonic() < deadline, self.story()
        return state

    def _ask_after_a_while(self) -> str:
        time.sleep(ASK_EVERY_S)
        return str(self.view()["state"])

    def story(self) -> str:
        logs = [self.paths.logs / "job.log", self.paths.rank_log(0)]
        texts = [path.read_text()[-3000:] for path in logs if path.exists()]
        return "\n".join([*map(str, Ledger(self.paths.events).rows()), *texts])


def new_workspace(root: Path, cluster: Cluster) -> Workspace:
    copy_cases(root)
    return Workspace(root, cluster)


def copy_cases(root: Path) -> None:
    """Make a workspace at ``root`` with the cases and scripts of the project."""
    for folder in ("cases", "slurm"):
        shutil.copytree(PROJECT / folder, root / folder)


def fingerprint(paths: RunPaths) -> dict[str, str]:
    """Return hashes of what a repetition must share: weights, optimizers, early stopping, best, metrics."""
    newest = max(paths.checkpoints.glob("step_*"), key=lambda path: int(path.name.split("_")[1]))
    found = {stem: _digest(newest / f"{stem}.pt") for stem in ("networks", "optimizers", "state")}
    (best,) = records.read_json(paths.best / "manifest.json")["files"]
    return {
        **found,
        "best": _digest(paths.best / best),
        "metrics": hashlib.sha256(paths.metrics.read_bytes()).hexdigest(),
    }


def processes_after_a_while(workspace: Workspace) -> list[str]:
    """Return the processes that still work in a workspace, once they had the time to leave."""
    deadline = time.monotonic() + LEAVE_S
    while (found := processes_of(workspace)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def processes_of(workspace: Workspace) -> list[str]:
    """Return the processes that work in a workspace now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_there = (process / "cwd").resolve() == workspace.root.resolve()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if is_there and int(process.name) != os.getpid():
            found.append(command)
    return found


def _digest(path: Path) -> str:
    hashed = hashlib.sha256()
    _feed(hashed, torch.load(path, map_location="cpu", weights_only=True))
    return hashed.hexdigest()


def _feed(hashed: hashlib._Hash, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        hashed.update(str((value.dtype, value.shape)).encode() + value.contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            hashed.update(str(key).encode())
            _feed(hashed, value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(hashed, item)
    else:
        hashed.update(repr(value).encode())
