"""What a Slurm job finds of its run, and makes itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from hpc.attempt import submit
from hpc.base import records
from hpc.base.errors import ExitCode
from hpc.commands import inside_job
from hpc.plan.from_args import PlanRequest
from hpc.plan.plan import build


def test_a_run_directory_whose_writing_was_cut_short_is_written_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build(workspace, "crypto", preset="demo")
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("HPC_ROOT", raising=False)
    checked = SimpleNamespace(plan=plan, packages=())
    monkeypatch.setattr(inside_job, "plan_of_run", lambda *_: checked)
    monkeypatch.setattr(inside_job, "run_slurm_attempt", lambda *_, **__: ExitCode.OK)
    writes: list[Path] = []

    def write_the_first(path: Path, content: str) -> None:
        """Write one file and die, as a job does that is killed."""
        writes.append(path)
        if len(writes) > 1:
            raise KeyboardInterrupt
        path.write_text(content)

    with monkeypatch.context() as killed:
        killed.setattr(records, "write_text", write_the_first)
        with pytest.raises(KeyboardInterrupt):
            submit.write_run(plan)

    inside_job.attempt(PlanRequest("crypto", preset="demo"), plan.run_id, None, [])

    assert plan.paths.config.read_text() == plan.config_text
    assert plan.paths.job_script.read_text() == plan.script
    assert records.read_json(plan.paths.plan) == plan.to_json()
