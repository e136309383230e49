"""Workspaces of their own for runs on a real Slurm, and what is compared when the runs are over."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hpc.base import records
from hpc.run.history import History, Ledger
from hpc.run.paths import RunPaths
from tests.holds import control
from tests.holds.control import PROJECT, PYTHONPATH
from tests.processes import commands_in
from tests.slurm.clusters import COMMAND_TIMEOUT_S, Cluster

# Four ranks on two nodes; 260 windows make 4 steps a pass, so 16 passes are 65 steps (130 of two ranks).
SETTINGS = (
    "data.synthetic.num_bars=400",
    "model.d_model=32",
    "model.num_layers=1",
    "training.batch_size=16",
    "training.epochs=16",
    "training.patience=1000",
    "training.evaluations_per_epoch=0.5",
    "training.checkpoint_every_s=1000",
    "resources.nodes=2",
    "resources.gpus=2",
    "resources.cpus_per_gpu=1",
    "resources.memory_gb_per_gpu=4",
)

STOCKS = (
    *("per_stock", "--preset", "demo", "training.epochs=1000", "training.max_steps=60"),
    *("training.patience=1000", "training.checkpoint_every_s=1000"),
    *("resources.cpus_per_gpu=1", "resources.memory_gb_per_gpu=4"),
)

# These end what hangs; no test waits for them, so they are far above what a loaded machine needs.
WAIT_S = 600.0
RUN_S = 900.0
LEAVE_S = 60.0
ASK_EVERY_S = 10.0
OVER = ("finished", "failed", "cancelled", "lost")


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

    @contextmanager
    def monitored(self) -> Iterator[None]:
        """Let a monitor watch meanwhile, as a person would: it lifts the holds of requeued jobs."""
        command = [sys.executable, "-m", "hpc", "monitor"]
        monitor = subprocess.Popen(command, cwd=self.root, env=self.environ, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            monitor.kill()
            monitor.wait()

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
        """Return what `hpc status` says."""
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
        """Wait, with a monitor, until this attempt has begun."""
        with self.workspace.monitored():
            self.until(lambda: len(self.history.attempts) >= number)

    def until_over(self) -> str:
        """Wait, with a monitor; return the last state. Asks when an attempt has ended, and now and then."""
        deadline = time.monotonic() + RUN_S
        with self.workspace.monitored():
            while (state := str(self.view()["state"])) not in OVER:
                assert time.monotonic() < deadline, self.story()
                self._pause()
        return state

    def _pause(self) -> None:
        before, until = self._num_endings(), time.monotonic() + ASK_EVERY_S
        while self._num_endings() == before and time.monotonic() < until:
            time.sleep(0.5)

    def _num_endings(self) -> int:
        return sum(row["kind"] == "attempt_ended" for row in Ledger(self.paths.events).rows())

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
    while (found := commands_in(workspace.root)) and time.monotonic() < deadline:
        time.sleep(0.5)
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
