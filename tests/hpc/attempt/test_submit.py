"""Submits of one run at the same time, and what a submit leaves behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.attempt import executors
from hpc.attempt.submit import SubmitResult, submit
from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.plan.plan import Plan, build

HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def plan(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    def start_nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(executors, "start_here", start_nothing)
    return build(workspace, "crypto", preset="demo")


def test_a_submit_beside_another_is_refused_until_that_one_ends_or_is_killed(plan: Plan) -> None:
    folder = plan.paths.root.parent
    folder.mkdir(parents=True)
    lock = folder / f".{plan.run_id}.submitting"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"

    with pytest.raises(UserError, match="another submit of this run") as caught:
        submit(plan, locally=True)
    other.kill()
    other.wait()
    other.stdout.close()
    (submission,) = submit(plan, locally=True)

    assert caught.value.exit_code == ExitCode.REFUSED
    assert submission.result is SubmitResult.SUBMITTED
    assert not lock.exists()


def test_a_submit_records_the_versions_of_the_packages_it_was_told(plan: Plan) -> None:
    submit(plan, packages=["pytest", "no-such-package"], locally=True)

    provenance = records.read_json(plan.paths.provenance)
    assert provenance["packages"] == {"pytest": pytest.__version__}
