"""The exit code of those who waited for runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.base.errors import ExitCode
from hpc.commands.follow import follow_to_end
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths

ENDS = {
    "finished": ("finished", "finished"),
    "cancelled": ("cancelled", "stop"),
    "failed": ("killed by SIGKILL", "stop"),
}


def ended_run(root: Path, name: str) -> RunPaths:
    """Return a run that is over; its name says how."""
    paths = RunPaths(root / "runs" / "toy" / name)
    paths.root.mkdir(parents=True)
    ledger = Ledger(paths.events)
    cause, decision = ENDS[name]
    ledger.append("submitted", job_id="7", executor="local")
    ledger.append("attempt_started", attempt=1, job_id="7", nodes=[])
    if name == "finished":
        ledger.append("finished", attempt=1)
    ledger.append("attempt_ended", attempt=1, exit_code=0, cause=cause, decision=decision)
    return paths


@pytest.mark.parametrize(
    ("names", "exit_code"),
    [
        (["finished"], ExitCode.OK),
        (["cancelled"], ExitCode.INTERRUPTED),
        (["failed"], ExitCode.FAILED),
        (["finished", "cancelled"], ExitCode.INTERRUPTED),
        (["cancelled", "failed", "finished"], ExitCode.FAILED),
    ],
)
def test_whoever_waits_gets_the_exit_code_of_the_worst_run(
    tmp_path: Path, names: list[str], exit_code: ExitCode
) -> None:
    paths = [ended_run(tmp_path, name) for name in names]

    assert follow_to_end(paths) is exit_code
