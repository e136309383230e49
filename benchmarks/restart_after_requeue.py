"""Seconds from the last step before a requeue to the first step after it, against submitit's own requeue.

python benchmarks/restart_after_requeue.py

Both train on 2 nodes x 2 tasks of the same one-machine Slurm, one after the other, and both are asked to
stop by `scancel --signal=USR2`, which is what they get before a time limit. Ours runs the crypto case's demo
preset, with `hpc submit --wait` watching; the rival is what submitit's documentation shows: a callable with a
`checkpoint` method, here one that trains a small DDP model with gloo. Takes about three minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from comparison import show

ROOT = Path(__file__).resolve().parents[1]
DEVCLUSTER = [sys.executable, str(ROOT / "slurm" / "devcluster")]
PORTS_FROM = 26000
PACED = Path(__file__).resolve().parent / "paced"
STEP_S = 0.3
NUM_STEPS_BEFORE = 3
PATIENCE_S = 240.0
RIVAL = "submitit"


class Training:
    """The rival: a DDP model trained under submitit, saved and requeued by its `checkpoint`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self) -> None:
        import submitit
        import torch
        from torch import distributed, nn

        place = submitit.JobEnvironment()
        attempt = int(os.environ.get("SLURM_RESTART_COUNT", "0")) + 1
        # The nodes of a one-machine Slurm have names that nobody resolves: ranks meet at a file.
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{self.folder}/attempt_{attempt}",
            rank=place.global_rank,
            world_size=place.num_tasks,
        )
        self.model = nn.Linear(64, 64)
        saved = Path(self.folder, "model.pt")
        if saved.exists():
            self.model.load_state_dict(torch.load(saved, weights_only=True))
        network = nn.parallel.DistributedDataParallel(self.model)
        while True:
            network(torch.ones(8, 64)).square().mean().backward()
            time.sleep(STEP_S)
            if place.global_rank == 0:
                row = {"attempt": attempt, "time": time.time()}
                with Path(self.folder, "steps.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")

    def checkpoint(self) -> Any:
        import submitit
        import torch

        torch.save(self.model.state_dict(), Path(self.folder, "model.pt"))
        return submitit.helpers.DelayedSubmission(Training(self.folder))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(what: str, found: Callable[[], Any]) -> Any:
    """Return the first true answer."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := found()):
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within {PATIENCE_S:.0f} s")
        time.sleep(0.2)
    return answer


def interrupt(job_id: str) -> None:
    subprocess.run(["scancel", "--signal=USR2", job_id], check=True)


def cancel_and_forget(job_id: str) -> None:
    """End a job and wait until its tasks have left the processors to whoever comes next."""
    subprocess.run(["scancel", job_id], check=True)
    ask = ["squeue", "--noheader", "--jobs", job_id]
    wait_for(
        f"the end of job {job_id}",
        lambda: not subprocess.run(ask, capture_output=True, text=True, check=False).stdout,
    )


def restart_of_submitit(folder: Path) -> float:
    import submitit

    executor = submitit.AutoExecutor(folder=folder / "submitit", cluster="slurm")
    executor.update_parameters(
        nodes=2, tasks_per_node=2, cpus_per_task=1, mem_gb=4, timeout_min=30, slurm_partition="long"
    )
    job = executor.submit(Training(str(folder)))
    steps = folder / "steps.jsonl"
    wait_for("submitit's first steps", lambda: len(rows(steps)) >= NUM_STEPS_BEFORE)
    interrupt(job.job_id)
    first = wait_for(
        "submitit's second attempt", lambda: [row for row in rows(steps) if row["attempt"] == 2]
    )[0]
    last = [row for row in rows(steps) if row["attempt"] == 1][-1]
    cancel_and_forget(job.job_id)
    return float(first["time"] - last["time"])


def restart_of_ours(workspace: Path) -> tuple[float, float]:
    """Return the seconds to the next first step, and of these the seconds until the next attempt began."""
    for name in ("cases", "slurm"):
        shutil.copytree(ROOT / name, workspace / name)
    settings = [
        "resources.nodes=2",
        "training.epochs=200",
        "training.patience=200",
    ]
    command = [sys.executable, "-m", "hpc", "submit", "crypto", "--preset", "demo", "--wait", *settings]
    follower = subprocess.Popen(
        command,
        cwd=workspace,
        env=os.environ | {"PYTHONPATH": f"{PACED}:{ROOT}", "PACE_S": str(STEP_S)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    (run,) = wait_for(
        "our run", lambda: [path.parent for path in workspace.glob("runs/crypto/*/events.jsonl")]
    )

    def events(kind: str) -> list[dict[str, Any]]:
        return [row for row in rows(run / "events.jsonl") if row["kind"] == kind]

    def steps(attempt: int) -> list[dict[str, Any]]:
        return [row for row in rows(run / "speed.jsonl") if row["attempt"] == attempt]

    wait_for("our first step", lambda: steps(1))
    time.sleep(NUM_STEPS_BEFORE * STEP_S)
    job_id = events("submitted")[0]["job_id"]
    interrupt(job_id)
    first = wait_for("our second attempt", lambda: steps(2))[0]["time"]
    last = events("stop_agreed")[0]["time"]
    begun = events("attempt_started")[1]["time"]
    cancel_and_forget(job_id)
    follower.wait()
    return first - last, begun - last


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[None]:
    where = ["--dir", str(folder), "--name", "bench"]
    subprocess.run(
        [*DEVCLUSTER, "up", *where, "--ports-from", str(PORTS_FROM), "--no-accounting"], check=True
    )
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        yield
    finally:
        subprocess.run([*DEVCLUSTER, "down", *where], check=True)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name:
        folder = Path(name)
        for part in ("rival", "ours"):
            (folder / part).mkdir()
        with running_cluster(folder / "slurm"):
            ours, begun = restart_of_ours(folder / "ours")
            rival = restart_of_submitit(folder / "rival")
    samples = {"ours": [ours], "of these until the next attempt began": [begun], RIVAL: [rival]}
    show("from the last step to the first step after a requeue", samples, rival=RIVAL)


if __name__ == "__main__":
    main()
