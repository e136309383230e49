"""Show the whole way on a small case: train on two ranks, interrupt once, resume, report."""

from __future__ import annotations

from hpc.base import records
from hpc.base.errors import ExitCode
from hpc.commands.follow import exit_code_of, follow_views
from hpc.commands.launch import launch
from hpc.monitor import tables
from hpc.monitor.status import RunView
from hpc.plan import program
from hpc.plan.from_args import PlanRequest, single_plan_from
from hpc.run.history import Ledger

INTERRUPT_AT = 0.4


def demo(case: str, preset: str, *, locally: bool) -> ExitCode:
    """Train a small case on two ranks, interrupt it once, let it resume, and show its report."""
    checked = single_plan_from(PlanRequest(case, preset=preset, fresh=True), program.SUBMIT)
    (submission,) = launch([checked], locally=locally, is_agreed=lambda: True)
    paths = submission.paths

    def interrupt_once(views: list[RunView]) -> None:
        (view,) = views
        if view.attempt == 1 and view.total_steps and not paths.stop_request.exists():
            step = round(INTERRUPT_AT * view.total_steps)
            tables.talk(f"*** attempt 1 is to be interrupted at step {step}, as a time limit would")
            records.write_json(paths.stop_request, {"attempt": 1, "from_step": step})

    views = follow_views([paths], on_tick=interrupt_once)
    history = Ledger(paths.events).history()
    exit_code = exit_code_of(views.values())
    if exit_code != ExitCode.OK:
        return exit_code
    for attempt in history.attempts:
        steps = f"step {attempt.first_step or 0} to {attempt.committed_step}"
        tables.result(f"attempt {attempt.number}: {steps}, ended by {attempt.cause}")
    tables.result(f"report: {paths.report}")
    return ExitCode.OK
