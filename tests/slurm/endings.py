"""What every run on a real Slurm must look like at its end, however it was interrupted."""

from __future__ import annotations

from hpc.base.errors import ExitCode
from hpc.run.history import Ledger
from tests.slurm.workspaces import Submitted, fingerprint, processes_after_a_while


def assert_same_numbers(run: Submitted, uninterrupted: dict[str, str]) -> None:
    assert fingerprint(run.paths) == uninterrupted
    assert run.paths.report.exists()


def assert_ends_like(run: Submitted, uninterrupted: dict[str, str], *, num_restarts: int | None) -> None:
    """The same numbers, one checkpoint for each stop, as many requeues, nobody killed or left behind."""
    assert_same_numbers(run, uninterrupted)
    rows = Ledger(run.paths.events).rows()
    for attempt in run.history.attempts[:-1]:
        own = [row for row in rows if row.get("attempt") == attempt.number]
        agreed = [row for row in own if row["kind"] == "stop_agreed"]
        saved = [row for row in own if row["kind"] == "checkpoint" and row["reason"] == "stop"]
        (ended,) = (row for row in own if row["kind"] == "attempt_ended")
        assert len(agreed) == len(saved) <= 1
        if saved:
            assert ended["exit_code"] == ExitCode.CONTINUE_LATER, "ranks that had saved were killed"
    if num_restarts is not None:
        job = run.workspace.cluster.run("scontrol", "show", "job", run.job_id)
        assert f"Restarts={num_restarts} " in job
    assert not processes_after_a_while(run.workspace)
