"""Follow runs: print their logs and each change of state until they are over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hpc.attempt.submit import Submission
from hpc.base.errors import ExitCode
from hpc.commands.results import summarise
from hpc.monitor import tables
from hpc.monitor.logs import Change, LogLine, follow, last_lines
from hpc.monitor.status import RunState, RunView
from hpc.plan.array import AnyPlan, ArrayPlan
from hpc.run.find import Run
from hpc.run.paths import RunPaths

MOST_LOGS = 10
"""Of more runs than this only the changes are printed while they are followed."""

RANK_0_LOG = "rank_0.log"
BATCH_LOG = "job.log"


def follow_launch(plans: Sequence[AnyPlan], submissions: Sequence[Submission]) -> ExitCode:
    """Follow what was launched to its end; end with a summary of each array."""
    exit_code = follow_to_end([submission.paths for submission in submissions])
    for plan in plans:
        if isinstance(plan, ArrayPlan):
            of_summary = summarise(plan.case, plan.preset)
            exit_code = of_summary if exit_code == ExitCode.OK else exit_code
    return exit_code


def follow_to_end(
    paths: Sequence[RunPaths], *, log: str = RANK_0_LOG, begins: Sequence[int] | None = None
) -> ExitCode:
    """Print the runs' logs and changes until all are over; return the exit code of their result.

    ``log`` is the log's name; ``begins`` are the bytes of each that were shown before, by default all.
    """
    views = follow_views(paths, log=log, begins=begins)
    for view in views.values():
        if view.state is RunState.FINISHED:
            tables.result(f"report: {Path(view.directory) / 'report.html'}")
    return exit_code_of(views.values())


def show_log(run: Run, *, number: int, rank: int, is_batch: bool, follows: bool) -> ExitCode:
    """Print the end of a run's log, and go on with it where asked to."""
    name = BATCH_LOG if is_batch else run.paths.rank_log(rank).name
    if not (run.paths.logs / name).exists() and not follows:
        name = BATCH_LOG  # no rank has written yet: what there is to know stands in the batch side's log
    path = run.paths.logs / name
    tables.talk(f"==> {path}")
    texts, end = last_lines(path, number)
    tables.result("\n".join(texts))
    return follow_to_end([run.paths], log=name, begins=[end]) if follows else ExitCode.OK


def follow_views(
    paths: Sequence[RunPaths],
    *,
    on_tick: Callable[[list[RunView]], None] = lambda _: None,
    log: str = RANK_0_LOG,
    begins: Sequence[int] | None = None,
) -> dict[str, RunView]:
    """Print log lines and changes until all runs are over; return the last view of each.

    Ctrl-C ends the process, not the runs.
    """
    views: dict[str, RunView] = {}
    try:
        for event in follow(paths, log=log, begins=begins, on_tick=on_tick):
            if isinstance(event, Change):
                views[event.view.run] = event.view
                tables.talk(_changed(event.view))
            elif len(paths) <= MOST_LOGS:
                tables.talk(_line(event, is_named=len(paths) > 1))
    except KeyboardInterrupt:
        tables.talk("no longer following; the run goes on. Stop it with: hpc cancel RUN")
        sys.exit(ExitCode.INTERRUPTED)
    return views


def exit_code_of(views: Iterable[RunView]) -> ExitCode:
    """Return the result of runs that are over: of several the worst counts."""
    states = {view.state for view in views}
    if states <= {RunState.FINISHED}:
        return ExitCode.OK
    is_cancelled = states <= {RunState.FINISHED, RunState.CANCELLED}
    return ExitCode.INTERRUPTED if is_cancelled else ExitCode.FAILED


def _line(line: LogLine, *, is_named: bool) -> str:
    return f"{line.run}: {line.text}" if is_named else line.text


def _changed(view: RunView) -> str:
    why = view.sentence.partition("\n")[0]  # the log tells the rest
    return f"*** {view.run}: {view.state.value}, attempt {view.attempt} ({why})"
