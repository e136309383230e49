"""Best values, patience, histories cut at a step, progress in proportion."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from hpc.base import records
from hpc.base.errors import UserError
from hpc.run import lease
from hpc.run.attempt import Attempt
from hpc.run.paths import RunPaths
from hpc.run.stop import Stop
from stockpred.train.cadence import Cadence
from stockpred.train.tracking import MetricsLog, Progress, Tracker


def test_patience_counts_evaluations_since_the_best() -> None:
    tracker = Tracker()
    for step, value in enumerate([3.0, 2.0, 2.0, 2.5, 1.9, 2.0, 1.95], start=1):
        tracker = tracker.after(value, step, is_better=tracker.best is None or value < tracker.best)
    assert tracker == Tracker(best=1.9, best_step=5, num_worse=2)
    assert tracker.is_out_of_patience(2)
    assert not tracker.is_out_of_patience(3)
    assert not tracker.is_out_of_patience("off")
    assert Tracker(**json.loads(json.dumps(tracker.state_dict()))) == tracker


def attempt_in(root: Path, *, number: int = 1, lease_token: str | None = None) -> Attempt:
    stop = Stop(deadline=None, request_file=None, attempt=number)
    return Attempt(RunPaths(root), number, stop, lease_token)


def test_a_resumed_history_has_no_row_after_its_step_and_no_torn_one(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    log = MetricsLog(attempt_in(tmp_path), tensorboard=False)
    for step in range(1, 6):
        log.append({"step": step, "epoch": 0.1, "loss": {"model": 1.0}, "lr": 0.1})
    with paths.metrics.open("a") as file:
        file.write('{"step": 6, "lo')
    log.begin_after(3)
    log.append({"step": 4, "epoch": 0.1, "loss": {"model": 2.0}, "lr": 0.1})
    assert [row["step"] for row in records.read_rows(paths.metrics)] == [1, 2, 3, 4]


def test_no_row_is_written_by_an_attempt_that_lost_its_run(tmp_path: Path) -> None:
    log = MetricsLog(attempt_in(tmp_path, lease_token="lost"), tensorboard=False)
    with pytest.raises(UserError):
        log.append({"step": 1})
    assert not RunPaths(tmp_path).metrics.exists()


def begun_progress(root: Path, lease_token: str | None = None) -> Progress:
    cadence = Cadence(num_samples=320, global_batch=32, total_steps=100, evaluations_per_epoch=1.0)
    progress = Progress(attempt_in(root, lease_token=lease_token), cadence)
    progress.begin_after(0)
    return progress


def test_a_disk_that_refuses_the_progress_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = RunPaths(tmp_path)
    paths.status.mkdir()
    progress = begun_progress(tmp_path)
    progress.tick(1, Tracker(), is_last=True)
    assert "cannot tell the progress" in caplog.text
    paths.status.rmdir()
    progress.tick(2, Tracker(), is_last=True)
    assert records.read_json(paths.status)["step"] == 2


def test_an_attempt_that_lost_its_run_ends_at_its_next_sign_of_progress(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    mine, other = lease.new(attempt=1, job_id="1"), lease.new(attempt=2, job_id="2")
    progress = begun_progress(tmp_path, mine.token)
    records.write_json(paths.lease, asdict(mine))
    progress.tick(1, Tracker(), is_last=True)
    records.write_json(paths.lease, asdict(other))
    with pytest.raises(UserError, match="another attempt"):
        progress.tick(2, Tracker(), is_last=True)
    assert records.read_json(paths.status)["step"] == 1


def test_tensorboard_that_is_not_installed_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="not installed") as caught:
        MetricsLog(attempt_in(tmp_path), tensorboard=True).begin_after(0)
    assert "pip install tensorboard" in str(caught.value)


def test_speed_and_remaining_time_follow_the_clock(tmp_path: Path) -> None:
    now = 1000.0
    cadence = Cadence(num_samples=320, global_batch=32, total_steps=100, evaluations_per_epoch=1.0)
    progress = Progress(attempt_in(tmp_path, number=2), cadence, clock=lambda: now)
    progress.begin_after(20)
    for step in range(21, 61):
        now += 0.25
        progress.loss = {"model": 1.5}
        progress.tick(step, Tracker(best=1.2, best_step=40))
    now += 0.1
    progress.tick(60, Tracker(), is_last=True)
    status = records.read_json(RunPaths(tmp_path).status)
    assert status["steps_per_s"] == pytest.approx(4.0, rel=0.05)
    assert status["samples_per_s"] == pytest.approx(4.0 * 32, rel=0.05)
    assert status["eta_s"] == pytest.approx(10.0, rel=0.05)
    assert (status["step"], status["total_steps"], status["epoch"], status["attempt"]) == (60, 100, 6.0, 2)
    assert [row["step"] for row in records.read_rows(RunPaths(tmp_path).speed)][-1] == 60
