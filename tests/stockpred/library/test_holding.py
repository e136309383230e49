"""A folder that another machine's process held: one that was killed is waited out, one that lives is not."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.run import lease
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from stockpred.library import holding
from stockpred.train.distributed import Group

ALONE = Group(JobEnv.read({}), torch.device("cpu"))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the fresh lease of a process on another machine; all waits are a hundredth."""
    monkeypatch.setattr(lease, "STALE_S", 0.6)
    monkeypatch.setattr(holding, "PATIENCE_S", 0.1)
    monkeypatch.setattr(holding, "POLL_S", 0.01)
    path = RunPaths(tmp_path).lease
    records.write_json(path, asdict(replace(lease.new(attempt=1, job_id="node7:4711"), host="node7")))
    return path


def test_the_lease_of_a_killed_process_is_waited_out_and_that_is_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING), holding.held(path.parent, ALONE) as attempt:
        assert attempt.number >= 1
    assert time.monotonic() - begin >= 0.4
    (said,) = [record.message for record in caplog.records]
    assert "node7" in said
    assert "waiting for a sign of life" in said


def test_a_process_that_renews_its_lease_is_at_work(path: Path) -> None:
    is_over = threading.Event()

    def renew() -> None:
        while not is_over.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        held = holding.held(path.parent, ALONE)
        with pytest.raises(UserError, match="on node7 is at work") as caught, held:
            raise AssertionError
    finally:
        is_over.set()
        thread.join()
    assert caught.value.exit_code is ExitCode.REFUSED


def test_a_lease_that_never_grows_stale_is_not_waited_for_without_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "LONGEST_WAIT_S", 0.3)
    os.utime(path, (time.time() + 3600.0,) * 2)  # the other machine's clock is an hour ahead
    with pytest.raises(UserError, match="is at work"), holding.held(path.parent, ALONE):
        raise AssertionError
