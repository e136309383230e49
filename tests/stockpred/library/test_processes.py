"""The same training on real processes: started here, by torchrun, by hand on two nodes; killed, resumed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hpc.base import records
from hpc.run.paths import RunPaths
from tests.holds import control
from tests.stockpred.library import scripts
from tests.stockpred.library.compare import assert_close, assert_identical
from tests.stockpred.library.scripts import TORCHRUN, Started, ended, result

Start = Callable[..., Started]
LIMIT_S = 200.0
"""Nothing waits for it to pass: it ends what hangs."""

HELD = 3
"""A step within the first epoch, which has five steps on two ranks."""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start scripts that do not outlive the test."""
    started: list[Started] = []

    def begin(*arguments: Any, **environ: str) -> Started:
        started.append(scripts.start(*arguments, **environ))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def request(batch_size: int, num_epochs: int = 3, **settings: Any) -> dict[str, Any]:
    return {"settings": settings, "batch_size": batch_size, "num_epochs": num_epochs}


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what one process makes of batches of 12."""
    out = tmp_path_factory.mktemp("joint")
    ended(scripts.start(out, request(12, use_distributed=False)))
    return result(out)


def test_accumulation_equals_the_joint_batch(joint: dict[str, Any], tmp_path: Path, start: Start) -> None:
    ended(start(tmp_path, request(4, use_distributed=False, gradient_accumulation_steps=3)))
    assert_close(result(tmp_path), joint)


def test_ranks_started_here_equal_one_process_with_the_joint_batch(
    joint: dict[str, Any], tmp_path: Path, start: Start
) -> None:
    """The script has no guarded main, and its model is trained in this very process afterwards."""
    ended(start(tmp_path, request(6, gpus_per_node=2)))
    assert_close(result(tmp_path), joint)


def test_ranks_of_torchrun_equal_one_process_with_the_joint_batch(
    joint: dict[str, Any], tmp_path: Path, start: Start
) -> None:
    ended(start(tmp_path, request(6), *TORCHRUN))
    assert_close(result(tmp_path, 0), joint)
    assert_identical(result(tmp_path, 0), result(tmp_path, 1))


def test_two_nodes_by_hand_equal_one_process_with_the_joint_batch(
    joint: dict[str, Any], tmp_path: Path, start: Start
) -> None:
    """Each node's script is started with the rank of its first process, and starts two."""
    by_hand = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "4"}
    asked = request(3, num_nodes=2, gpus_per_node=2, checkpoint_dir=str(tmp_path / "kept"))
    nodes = [start(tmp_path, asked, **by_hand, RANK=str(first)) for first in (2, 0)]
    for node in nodes:
        ended(node)
    assert_close(result(tmp_path, 0), joint)
    assert_identical(result(tmp_path, 0), result(tmp_path, 2))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def resumable(folder: Path, num_epochs: int = 4, **settings: Any) -> dict[str, Any]:
    """A request to save whenever the ranks talk: after the first step of an attempt, then once a second."""
    kept = {"checkpoint_dir": str(folder), "checkpoint_every_s": 0.0, **settings}
    return request(5, num_epochs, **kept) | {"dropout": 0.2}


@pytest.mark.parametrize(
    ("settings", "num_kills"),
    [({"use_distributed": False}, 2), ({"gpus_per_node": 2, "gradient_compression": "powersgd"}, 1)],
    ids=["one", "two with PowerSGD"],
)
def test_killed_in_an_epoch_the_same_call_goes_on_bit_for_bit(
    settings: dict[str, Any], num_kills: int, tmp_path: Path, start: Start
) -> None:
    """Killed after a save within the first epoch, before it ends: it goes on from the middle of an epoch."""
    undisturbed, killed, folder = tmp_path / "undisturbed", tmp_path / "killed", tmp_path / "kept"
    ended(start(undisturbed, resumable(tmp_path / "other", **settings)))
    for attempt in range(1, num_kills + 1):
        process = start_held(start, killed, resumable(folder, **settings), HELD + attempt)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    control.release(killed)
    ended(start(killed, resumable(folder, **settings)))
    assert_identical(result(killed), result(undisturbed))
    resumed = [row["step"] for row in events(folder) if row["kind"] == "resumed"]
    assert resumed == list(range(1, num_kills + 1))


def start_held(start: Start, out: Path, asked: dict[str, Any], step: int) -> Started:
    """Start a script; return when it has taken so many steps, after which it waits."""
    out.mkdir(exist_ok=True)
    control.hold(out, step)
    process = start(out, asked)
    metrics = RunPaths(Path(asked["settings"]["checkpoint_dir"])).metrics
    limit = time.monotonic() + LIMIT_S
    while not any(row["step"] == step for row in records.read_rows(metrics)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit, "it never came to this step"
        time.sleep(0.05)
    return process


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_compressed_gradients_still_learn_and_differ_from_whole_ones(
    joint: dict[str, Any], tmp_path: Path, start: Start
) -> None:
    found = {}
    for kind in ("bf16", "powersgd"):
        ended(start(tmp_path / kind, request(6, 4, gpus_per_node=2, gradient_compression=kind)))
        found[kind] = result(tmp_path / kind)["history"]["train_loss"]
    exact = joint["history"]["train_loss"]
    for losses in found.values():
        assert losses[:3] != exact
        assert losses[:3] == pytest.approx(exact, rel=0.05)


def test_asked_to_stop_it_saves_and_leaves_with_the_code_of_a_requeue(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "kept"
    process = start_held(start, tmp_path, resumable(folder, gpus_per_node=2), HELD)
    process.terminate()
    ended(process, expected=85)
    assert [row["kind"] for row in events(folder)][-3:] == ["stop_agreed", "checkpoint", "attempt_ended"]


def test_when_the_starter_is_killed_no_rank_stays(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "kept"
    process = start_held(start, tmp_path, resumable(folder, gpus_per_node=2), HELD)
    ranks = children(process.pid)
    assert len(ranks) == 2
    process.kill()
    limit = time.monotonic() + LIMIT_S
    while any(Path(f"/proc/{rank}").exists() and not is_zombie(rank) for rank in ranks):
        assert time.monotonic() < limit
        time.sleep(0.05)


def children(parent: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=True
    )
    return [int(pid) for pid in listed.stdout.split()]


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_two_trainings_do_not_write_into_one_folder(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "kept"
    first = start_held(start, tmp_path, resumable(folder, use_distributed=False), HELD)
    second = start(tmp_path, resumable(folder, use_distributed=False))
    assert "is at work in" in ended(second, expected=1)
    assert first.poll() is None


def test_the_first_error_of_a_rank_is_told_and_the_others_end(tmp_path: Path, start: Start) -> None:
    wrong = request(6, gpus_per_node=2, checkpoint_dir="/proc/nowhere")
    said = ended(start(tmp_path, wrong), expected=1)
    assert "UserError" in said or "FileNotFoundError" in said
    assert "/proc/nowhere" in said


def test_what_a_person_sets_up_and_wraps_in_ddp_is_used_as_it_is(
    joint: dict[str, Any], tmp_path: Path, start: Start
) -> None:
    program = tmp_path / "own.py"
    program.write_text(OWN_DDP)
    process = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        env=scripts.environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert_close(weights, joint["model"])


OWN_DDP = """
import sys
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from stockpred import Trainer, cleanup_distributed, setup_distributed
from tests.stockpred.library.scripts import Line, new_model


def worker(rank, world_size, out):
    device = setup_distributed(rank, world_size)
    model = DistributedDataParallel(new_model().to(device))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    trainer = Trainer(model, optimizer, nn.MSELoss(), device=device, scheduler=scheduler)
    trainer.train(DataLoader(Line(), batch_size=6, shuffle=True), epochs=3)
    if rank == 0:
        torch.save(model.module.state_dict(), out + "/weights.pt")
    cleanup_distributed()


if __name__ == "__main__":
    mp.spawn(worker, args=(2, sys.argv[1]), nprocs=2)
"""
