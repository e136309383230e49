"""What the commands do: plan, check, ask, submit, follow, cancel, demonstrate."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path

from hpc.attempt.local_job import local_holder, retry_limits
from hpc.attempt.slurm_job import run_slurm_attempt
from hpc.attempt.submit import Outcome, Submission, is_alive, submit, write_run, write_runs
from hpc.base import records, shell, yamlfile
from hpc.base.errors import ExitCode, UserError, raise_all
from hpc.base.text import count, parameters
from hpc.monitor import tables
from hpc.monitor.logs import Line, follow, last_lines
from hpc.monitor.status import RunState, RunView
from hpc.plan.array import AnyPlan, ArrayPlan
from hpc.plan.config import case_names
from hpc.plan.estimate import model_sizes, upper_bound
from hpc.plan.from_args import Chosen, plan_of_run, single_plan_of
from hpc.plan.plan import Plan
from hpc.plan.preflight import Verdict, check, failures, missing_bars
from hpc.run import find
from hpc.run.find import Run
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from hpc.slurm import commands
from hpc.slurm.cluster import Cluster, discover, slurm_is_here

DEMO_INTERRUPT_AT = 0.4
MOST_LOGS = 10
"""Of more runs than this only the changes are printed while they are followed."""

RANK_0_LOG = "rank_0.log"
BATCH_LOG = "job.log"


@dataclass(frozen=True)
class Place:
    """Where jobs go: a cluster, or this machine when there is none."""

    cluster: Cluster | None

    @property
    def name(self) -> str:
        return f"Slurm cluster {self.cluster.name}" if self.cluster else "this machine (no Slurm)"


def choose_place(*, locally: bool) -> Place:
    return Place(None if locally or not slurm_is_here() else discover())


def launch(plans: Sequence[AnyPlan], *, locally: bool, is_agreed: Callable[[], bool]) -> list[Submission]:
    """Check all plans, show what would happen, ask, submit, and say what to type next."""
    place = choose_place(locally=locally)
    _check(plans, place)
    tables.talk(_preview(plans, place))
    if not is_agreed():
        raise UserError("nothing was submitted", fix="answer y, or add --yes", exit_code=ExitCode.REFUSED)
    submissions: list[Submission] = []
    problems: list[UserError] = []
    for plan in plans:
        try:
            made = submit(plan, locally=place.cluster is None)
            submissions += made
            tables.result("\n".join(map(_sentence, made)))
            _warn_of_other_bars(plan, made)
        except UserError as error:
            problems.append(error)
    if submissions:
        tables.talk(_what_next(plans))
    raise_all(problems)
    return submissions


def runs_to_train(plan: AnyPlan, *, is_writing: bool) -> list[RunPaths]:
    """Return the runs of a plan for one who trains them without the launcher; write what is not there.

    Raises UserError where the bars are not there, or a job of one of the runs waits or works.
    """
    if is_writing:
        raise_all(missing_bars([plan]))
        queue = commands.RecentQueue()
        found = [find.open_run(run.paths) for run in plan.runs]
        for run in found:
            if is_alive(run, queue):
                what = f"{run.name} is at work as job {run.history.job_id}"
                fix = "wait for it, or cancel it with `hpc cancel`"
                raise UserError(what, fix=fix, exit_code=ExitCode.REFUSED)
        write_runs([own for own, run in zip(plan.runs, found, strict=True) if not run.history.finished])
    return [run.paths for run in plan.runs]


def follow_launch(plans: Sequence[AnyPlan], submissions: Sequence[Submission]) -> ExitCode:
    """Follow what was launched to its end; end with a summary of each array."""
    exit_code = follow_to_end([submission.paths for submission in submissions])
    for plan in plans:
        if isinstance(plan, ArrayPlan):
            exit_code = max(exit_code, summarise(plan.case, plan.preset))
    return exit_code


def follow_to_end(
    paths: Sequence[RunPaths], *, log: str = RANK_0_LOG, begins: Sequence[int] | None = None
) -> ExitCode:
    """Print the runs' logs and changes until all are over; return the exit code of their result.

    ``log`` is the log's name; ``begins`` are the bytes of each that were shown before, by default all.
    """
    views = _follow(paths, log=log, begins=begins, on_tick=lambda _: None)
    for view in views.values():
        if view.state is RunState.FINISHED:
            tables.result(f"report: {Path(view.directory) / 'report.html'}")
    is_done = all(view.state is RunState.FINISHED for view in views.values())
    return ExitCode.OK if is_done else ExitCode.FAILED


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


def cancel(wanted: str | None, only: str | None) -> None:
    """Let the live run or array that is meant save and leave; the ledger knows before any process does."""
    root = find.find_root()
    if wanted is None:
        raise UserError("which run?", fix="name a case or a run; `hpc status` lists them")
    candidates = find.matching(root, wanted, only)
    live = [run for run in candidates if not run.history.finished and not run.history.is_over]
    if not live:
        tables.result(f"{candidates[-1].name} is not running")
        return
    arrays = {run.history.array for run in live}
    if len(live) > 1 and (None in arrays or len(arrays) > 1):
        names = ", ".join(dict.fromkeys(run.history.array or run.name for run in live))
        raise UserError(f"{wanted!r} means several runs", fix=f"name one: {names}")
    _cancel(live)


def _cancel(live: Sequence[Run]) -> None:
    """Cancel one run, or all runs of one array."""
    holders = [local_holder(run.paths) if run.history.executor == "local" else None for run in live]
    for run, holder in zip(live, holders, strict=True):
        if holder and holder.host != socket.gethostname():
            raise UserError(f"{run.name} runs on {holder.host}", fix="cancel it there")
    for run in live:
        Ledger(run.paths.events).append("cancelled")
    for holder in holders:
        if holder:
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder.pid, signal.SIGTERM)
    _cancel_jobs([run for run in live if run.history.executor == "slurm"])
    for run in live:
        tables.result(f"{run.name}: cancelled; if it is at work, it saves and leaves")


def _cancel_jobs(live: Sequence[Run]) -> None:
    if not live:
        return
    queued = commands.queue()
    own = {(job.job_id, job.name) for job in queued}
    job_ids = [
        job_id
        for run in live
        for job_id in run.history.job_ids
        if any((job_id, name) in own for name in run.job_names)
    ]
    refusal = commands.cancel(job_ids) if job_ids else None
    if refusal:
        what = f"Slurm does not cancel {', '.join(job_ids)}: {refusal.text}"
        raise UserError(what, fix=f"try: scancel {' '.join(job_ids)}", exit_code=ExitCode.FAILED)


def report(run: Run) -> None:
    """Let the training program write a run's report again."""
    answer = shell.run([sys.executable, "-m", "stockpred", "report", str(run.paths.root)], timeout_s=600)
    if not answer.is_ok:
        raise UserError(
            f"no report was written: {answer.err.strip()}",
            fix="let the run finish first",
            exit_code=ExitCode.FAILED,
        )
    tables.result(answer.out)


def summarise(case: str | None, preset: str | None) -> ExitCode:
    """Let the training program put the results of a case's runs side by side, those of one preset."""
    root = find.find_root()
    if case is None:
        raise UserError("which case?", fix=f"name one: {', '.join(case_names(root))}")
    found = [run for run in find.matching(root, case) if run.paths.plan.exists()]
    presets = {run.paths: str(records.read_json(run.paths.plan)["preset"]) for run in found}
    chosen = preset or presets[found[-1].paths]
    own = [run for run in found if presets[run.paths] == chosen]
    if not own:
        known = ", ".join(sorted(set(presets.values())))
        raise UserError(f"case {case} has no run of preset {chosen!r}", fix=f"there are runs of: {known}")
    newest = own[-1].history.array
    wanted = [
        run
        for run in own
        if run.history.finished or run is own[-1] or (newest is not None and run.history.array == newest)
    ]
    wanted.sort(key=_place_in_array)
    out = root / "runs" / case / f"summary-{chosen}"
    words = [sys.executable, "-m", "stockpred", "summary", "--out", str(out)]
    answer = shell.run([*words, *(str(run.paths.root) for run in wanted)], timeout_s=600, cwd=root)
    if answer.out:
        tables.result(answer.out)
    if answer.err:
        tables.talk(answer.err.rstrip())
    return ExitCode.OK if answer.is_ok else ExitCode.FAILED


def _place_in_array(run: Run) -> tuple[int, str]:
    """Return where a run stands in its array; runs outside of one come last, by name."""
    member = (records.read_json_if_any(run.paths.plan) or {}).get("member")
    array = run.history.array
    plan = records.read_json_if_any(run.paths.array(array).plan) if array else None
    values = plan["values"] if plan else []
    return (values.index(member) if member in values else len(values), run.paths.run_id)


def demo(case: str, preset: str, *, locally: bool) -> ExitCode:
    """Train a small case on two ranks, interrupt it once, let it resume, and show its report."""
    plan = single_plan_of(case, {"preset": preset, "fresh": True})
    (submission,) = launch([plan], locally=locally, is_agreed=lambda: True)
    paths = submission.paths

    def interrupt_once(views: list[RunView]) -> None:
        (view,) = views
        is_far = view.total_steps and (view.step or 0) >= DEMO_INTERRUPT_AT * view.total_steps
        if view.attempt == 1 and is_far and not paths.stop_request.exists():
            tables.talk(f"*** interrupting attempt 1 at step {view.step}, as a time limit would")
            records.write_json(paths.stop_request, {"attempt": 1})

    views = _follow([paths], on_tick=interrupt_once)
    history = Ledger(paths.events).history()
    if any(view.state is not RunState.FINISHED for view in views.values()):
        return ExitCode.FAILED
    for attempt in history.attempts:
        steps = f"step {attempt.first_step or 0} to {attempt.committed_step}"
        tables.result(f"attempt {attempt.number}: {steps}, ended by {attempt.cause}")
    tables.result(f"report: {paths.report}")
    return ExitCode.OK


def attempt(case: str, run_id: str, array: str | None, words: Sequence[str], chosen: Chosen) -> ExitCode:
    """Carry one attempt inside a Slurm job; ``words`` are the overrides and the command that starts ranks.

    A script that was submitted by hand makes its run directory here.
    """
    overrides = list(takewhile(lambda word: "=" in word, words))
    command = list(words[len(overrides) :])
    paths = RunPaths(find.find_root() / "runs" / case / run_id)
    if not paths.config.exists():
        write_run(plan_of_run(case, run_id, {**chosen, "overrides": overrides}))
    return run_slurm_attempt(paths, command, retry_limits(paths), array=array)


def _follow(
    paths: Sequence[RunPaths],
    *,
    on_tick: Callable[[list[RunView]], None],
    log: str = RANK_0_LOG,
    begins: Sequence[int] | None = None,
) -> dict[str, RunView]:
    views: dict[str, RunView] = {}
    try:
        for event in follow(paths, log=log, begins=begins, on_tick=on_tick):
            if isinstance(event, Line):
                if len(paths) <= MOST_LOGS:
                    tables.talk(f"{event.run}: {event.text}" if len(paths) > 1 else event.text)
            else:
                views[event.view.run] = event.view
                why = event.view.sentence.partition("\n")[0]  # the log tells the rest
                tables.talk(
                    f"*** {event.view.run}: {event.view.state.value}, attempt {event.view.attempt} ({why})"
                )
    except KeyboardInterrupt:
        tables.talk("no longer following; the run goes on. Stop it with: hpc cancel RUN")
        sys.exit(ExitCode.INTERRUPTED)
    return views


def _check(plans: Sequence[AnyPlan], place: Place) -> None:
    problems: list[UserError] = []
    for plan in plans:
        checks = check(plan, place.cluster)
        for item in checks:
            if item.verdict is Verdict.WARN:
                tables.talk(f"warning: {plan.case}: {item.what}")
        problems.extend(failures(checks))
    raise_all(problems)
    raise_all(missing_bars(plans))


def _preview(plans: Sequence[AnyPlan], place: Place) -> str:
    every = [run.config for plan in plans for run in plan.runs]
    sizes = iter(model_sizes(plans[0].root, every))
    header = ("case", "preset", "run", "parameters", "ranks", "limit", "GPU-hours at most")
    rows = []
    for plan in plans:
        size, *_ = islice(sizes, len(plan.runs))
        rows.append(_row(plan, size))
    state = f"\n{place.cluster.summary()}" if place.cluster else ""
    table = tables.lines([header, *rows] if place.cluster else [row[:-1] for row in [header, *rows]])
    total = sum(_gpu_hours(plan) for plan in plans)
    sum_line = f"\n{count(len(plans), 'case')}, at most {total:.0f} GPU-hours for each attempt"
    return f"on {place.name}{state}\n{table}{sum_line if place.cluster and len(plans) > 1 else ''}"


def _gpu_hours(plan: AnyPlan) -> float:
    return len(plan.runs) * upper_bound(plan.resources).gpu_hours


def _row(plan: AnyPlan, size: int | None) -> tuple[str, ...]:
    return (
        plan.case,
        plan.preset,
        plan.run_id if isinstance(plan, Plan) else f"{count(len(plan.runs), 'run')}, {_pace(plan)}",
        parameters(size),
        f"{plan.resources.nodes} x {plan.resources.gpus}",
        plan.resources.limit,
        f"{_gpu_hours(plan):.0f}",
    )


def _warn_of_other_bars(plan: AnyPlan, made: Sequence[Submission]) -> None:
    """Say so where runs that exist were made from the bars of another place than the one typed now."""
    asked = plan.config.value("data.dir")
    kept = [one.paths for one in made if not one.outcome.needs_job and one.paths.config.exists()]
    places = {yamlfile.plain(yamlfile.load(paths.config))["data"]["dir"] for paths in kept} - {asked}
    if places:
        names = ", ".join(str(place) for place in sorted(places, key=str))
        tables.talk(f"warning: {plan.case}: these are runs on the bars of {names}; --fresh trains on {asked}")


def _sentence(submission: Submission) -> str:
    name = f"{submission.paths.case}/{submission.paths.run_id}"
    if submission.outcome is Outcome.FINISHED:
        return f"{name} was finished before: {submission.paths.report} (--fresh starts another)"
    return f"{name} {submission.outcome.value} as job {submission.job_id}"


def _pace(plan: ArrayPlan) -> str:
    return f"{plan.at_once} at once" if plan.at_once else "side by side"


def _what_next(plans: Sequence[AnyPlan]) -> str:
    case = "|".join(plan.case for plan in plans)
    arrays = "|".join(plan.case for plan in plans if isinstance(plan, ArrayPlan))
    summary = f", make summary CASE={arrays}" if arrays else ""
    return f"next: make status, make logs CASE={case}, make monitor, make cancel CASE={case}{summary}"
