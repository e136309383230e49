"""All stocks of a case by one command on this machine: as a pool, and without the launcher."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hpc.run.history import AttemptRecord, Ledger
from hpc.run.paths import RunPaths
from tests.holds import control
from tests.processes import kill_all_in
from tests.slurm.clusters import COMMAND_TIMEOUT_S, NO_SLURM
from tests.slurm.workspaces import WAIT_S, copy_cases, fingerprint

STOCKS = ("AAPL", "JNJ", "^GSPC")
CHOICE = (
    *("per_stock", "--preset", "demo", "--only", ",".join(STOCKS)),
    *("training.epochs=6", "training.patience=1000", "data.synthetic.num_bars=300"),
)
TWO_AT_ONCE = ("hpc", "submit", *CHOICE, "array.at_once=2", "--local", "--wait")
STEP = 3


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Return a workspace in which three stocks were trained, two at once, and what was printed."""
    root = new_workspace(tmp_path_factory.mktemp("array") / "pooled")
    control.hold(root, STEP)
    with started(root, "-m", *TWO_AT_ONCE) as process:
        until(lambda: len(held_runs(root)) == 2, root, process)
        control.release(root)
        code = process.wait(timeout=COMMAND_TIMEOUT_S)
    assert code == 0, output_of(root)
    yield root, output_of(root)
    kill_all_in(root)


def test_a_pool_trains_every_stock_and_no_more_at_once_than_it_may(pooled: tuple[Path, str]) -> None:
    root, _ = pooled
    found = runs_of(root)

    assert set(found) == {"AAPL", "JNJ", "GSPC"}
    attempts = [Ledger(paths.events).history().attempts for paths in found.values()]
    assert all(len(of_run) == 1 and of_run[0].cause == "finished" for of_run in attempts)
    assert most_at_once([of_run[0] for of_run in attempts]) == 2
    ids = sorted(of_run[0].job_id for of_run in attempts)
    assert [job_id.partition("_")[2] for job_id in ids] == ["0", "1", "2"]


def test_the_command_ends_with_a_summary_of_all_stocks(pooled: tuple[Path, str]) -> None:
    root, printed = pooled
    table = root / "runs" / "per_stock" / "summary-demo.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert {row["subject"] for row in rows} == set(STOCKS)
    for symbol in STOCKS:
        forecasters = [row["forecaster"] for row in rows if row["subject"] == symbol]
        assert {"mlp", "last_value", "drift"} <= set(forecasters)
        assert symbol in printed
    page = table.with_suffix(".html").read_text()
    assert page.count("<svg") >= len(STOCKS)
    assert "synthetic" in page


def test_to_submit_again_trains_nothing_again(pooled: tuple[Path, str]) -> None:
    root, _ = pooled
    before = {path: path.stat().st_mtime_ns for path in root.glob("runs/per_stock/*/events.jsonl")}

    done = run(root, *TWO_AT_ONCE)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("was finished before") == len(STOCKS)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_without_the_launcher_the_numbers_are_the_same(pooled: tuple[Path, str], tmp_path: Path) -> None:
    root = new_workspace(tmp_path / "alone")

    done = run(root, "stockpred", "train", *CHOICE)
    again = run(root, "stockpred", "train", *CHOICE)

    assert done.returncode == 0, done.stdout + done.stderr
    theirs, ours = runs_of(pooled[0]), runs_of(root)
    assert {name: fingerprint(paths) for name, paths in ours.items()} == {
        name: fingerprint(paths) for name, paths in theirs.items()
    }
    assert again.returncode == 0
    assert again.stdout.count("was finished before") == len(STOCKS)


def test_torchruns_ranks_stop_together_and_go_on_when_the_command_is_given_again(tmp_path: Path) -> None:
    root = new_workspace(tmp_path / "torchrun")
    words = (*CHOICE[:3], "--only", "AAPL", *CHOICE[5:])
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0")
    command = (*launcher, "-m", "stockpred", "train", *words)
    control.hold(root, STEP)
    with started(root, *command) as first:
        until(lambda: bool(held_runs(root)), root, first)
        first.send_signal(signal.SIGTERM)
        first.wait(timeout=COMMAND_TIMEOUT_S)
    with started(root, *command) as second:
        code = second.wait(timeout=COMMAND_TIMEOUT_S)

    assert code == 0, output_of(root)
    (paths,) = runs_of(root).values()
    history = Ledger(paths.events).history()
    assert [attempt.cause for attempt in history.attempts] == ["cancelled", "finished"]
    assert history.attempts[1].first_step == history.attempts[0].committed_step == STEP
    assert history.finished
    assert not paths.lease.exists()


def test_ctrl_c_saves_keeps_the_log_and_begins_no_other_run(tmp_path: Path) -> None:
    root = new_workspace(tmp_path / "interrupted")
    words = (*CHOICE[:3], "--only", "AAPL,JNJ", *CHOICE[5:])
    control.hold(root, STEP)
    with started(root, "-m", "stockpred", "train", *words) as process:
        until(lambda: bool(held_runs(root)), root, process)
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=COMMAND_TIMEOUT_S)

    assert code == 130
    (paths,) = runs_of(root).values()
    (attempt,) = Ledger(paths.events).history().attempts
    assert attempt.cause == "cancelled"
    assert attempt.committed_step == STEP
    assert "=== attempt 1 of per_stock/" in paths.rank_log(0).read_text()


def test_to_train_a_finished_run_again_rewrites_nothing(pooled: tuple[Path, str]) -> None:
    root, _ = pooled
    before = {path: path.read_bytes() for path in root.glob("runs/per_stock/*/*.json")}

    done = run(root, "stockpred", "train", *CHOICE, "array.at_once=2", "data.dir=elsewhere")

    assert done.stdout.count("was finished before") == len(STOCKS)
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_that_was_cancelled_can_be_submitted_again_while_its_pool_lives(tmp_path: Path) -> None:
    root = new_workspace(tmp_path / "again")
    words = ("hpc", "submit", *CHOICE[:3], "--only", "AAPL,^GSPC", *CHOICE[5:], "array.at_once=1", "--local")
    control.hold(root, STEP)
    assert run(root, *words).returncode == 0
    until(lambda: bool(held_runs(root)), root)

    cancelled = run(root, "hpc", "cancel", "per_stock", "--only", "^GSPC")
    waiting = run(root, "hpc", "status", "per_stock", "--only", "^GSPC")
    with started(root, "-m", *words, "--wait") as process:
        until(lambda: "per_stock/demo-GSPC" in output_of(root), root, process)
        control.release(root)
        code = process.wait(timeout=COMMAND_TIMEOUT_S)

    assert cancelled.stdout.count("cancelled") == 1
    assert "\tcancelled\t" in waiting.stdout
    assert code == 0, output_of(root)
    histories = [Ledger(paths.events).history() for paths in runs_of(root).values()]
    assert all(history.finished for history in histories)
    assert most_at_once([attempt for history in histories for attempt in history.attempts]) == 1


def test_several_ranks_cannot_each_look_for_a_fresh_run(tmp_path: Path) -> None:
    root = new_workspace(tmp_path / "fresh")

    done = run(root, "stockpred", "train", *CHOICE, "--fresh", ranks="2")

    assert done.returncode == 2
    assert "--fresh and several ranks" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("per_stock", "--only", "APPL"), "did you mean 'AAPL'?"),
        (("per_stok",), "did you mean 'per_stock'?"),
        (("per_stock", "--only", "AAPL", "training.epoch=3"), "training.epochs"),
    ],
)
def test_a_mistake_is_told_once_and_nothing_is_written(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    root = new_workspace(tmp_path / "wrong")

    done = run(root, "stockpred", "train", *words)

    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert told in done.stderr
    assert not (root / "runs").exists()


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({}, "has no bars for 1 of 2 assets: JNJ"),
        ({"close": np.ones(7)}, "close (7,)"),
        ({"close": np.ones((9, 2))}, "close has shape (9, 2), expected (N,)"),
    ],
)
def test_bars_that_are_missing_or_misshapen_are_refused_before_any_job(
    tmp_path: Path, arrays: dict[str, np.ndarray], told: str
) -> None:
    root = new_workspace(tmp_path / "wrong")
    bars = root / "bars"
    bars.mkdir()
    good = {"time": np.arange(9) * 86_400_000_000_000 + 10**18, "close": np.ones(9)}
    np.savez(bars / "AAPL.npz", **good)
    if arrays:
        np.savez(bars / "JNJ.npz", **good | arrays)

    done = run(root, "hpc", "submit", "per_stock", "--only", "AAPL,JNJ", "--data", "bars", "--local")

    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert told in done.stderr
    assert "fix:" in done.stderr
    assert not arrays or "error: bars/JNJ.npz: " in done.stderr
    assert not list(root.glob("runs/*/*"))


def new_workspace(root: Path) -> Path:
    copy_cases(root)
    return root


def environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    own = {"PYTHONPATH": control.PYTHONPATH, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return kept | own | NO_SLURM


def run(root: Path, program: str, *words: str, ranks: str = "1") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", program, *words],
        cwd=root,
        env=environ() | ({"RANK": "0", "WORLD_SIZE": ranks} if ranks != "1" else {}),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


@contextmanager
def started(root: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start Python with these words, writing to a file (see ``output_of``); it does not outlive the test."""
    with (root / "output.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=root, env=environ(), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def output_of(root: Path) -> str:
    return (root / "output.log").read_text()


def until(is_so: Callable[[], bool], root: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert process is None or process.poll() is None, output_of(root)
        assert time.monotonic() < deadline
        time.sleep(0.1)


def held_runs(root: Path) -> list[RunPaths]:
    """Return the runs whose first attempt has come to the step at which it waits."""
    return [paths for paths in runs_of(root).values() if control.is_held(paths, attempt=1, step=STEP)]


def runs_of(root: Path) -> dict[str, RunPaths]:
    """Return the runs of a workspace by the name of their stock."""
    found = [path.parent for path in root.glob("runs/per_stock/*/events.jsonl")]
    return {path.name.split("-")[1]: RunPaths(path) for path in found}


def most_at_once(attempts: list[AttemptRecord]) -> int:
    moments = [(attempt.started, 1) for attempt in attempts]
    moments += [(attempt.ended, -1) for attempt in attempts if attempt.ended is not None]
    level, most = 0, 0
    for _, change in sorted(moments):
        level += change
        most = max(most, level)
    return most
