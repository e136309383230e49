"""What the commands do: plan, check, ask, submit, follow, cancel, demonstrate."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from hpc import records, runs, scheduler, shell, tables
from hpc.cluster import Cluster, discover, slurm_is_here
from hpc.config import TABLE, case_names
from hpc.errors import ExitCode, UserError, raise_all
from hpc.estimate import model_sizes, upper_bound
from hpc.job import local_holder, run_slurm_attempt
from hpc.ledger import Ledger
from hpc.logs import Line, follow, last_lines
from hpc.monitor import RunState, RunView
from hpc.paths import RunPaths
from hpc.plan import Plan, build, ordinal_of
from hpc.preflight import Verdict, check, failures
from hpc.runs import Run
from hpc.submit import Outcome, Submission, retry_limits, submit, write_run
from hpc.submit import start_local as start_local_run
from hpc.text import count

DEMO_INTERRUPT_AT = 0.4
RANK_0_LOG = "rank_0.log"
BATCH_LOG = "job.log"
Chosen = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where jobs go: a cluster, or this machine when there is none."""

    cluster: Cluster | None

    @property
    def name(self) -> str:
        return f"Slurm cluster {self.cluster.name}" if self.cluster else "this machine (no Slurm)"


def plan_of(case: str | None, chosen: Chosen, *, run_id: str | None = None) -> Plan:
    """Build the plan of one case from the words of the command line.

    Its run is the newest with this configuration; ``fresh`` makes another. ``run_id`` names one that exists.
    """
    root = runs.find_root()
    if case is None or "=" in case:
        raise UserError("which case?", fix=f"name one: {', '.join(case_names(root))}")
    if run_id is not None:
        return _same_run(_build(root, case, chosen, ordinal_of(run_id)), run_id)
    plan = _build(root, case, chosen, 1)
    newest = _newest_ordinal(plan)
    ordinal = newest + 1 if chosen.get("fresh") else max(newest, 1)
    return plan if ordinal == 1 else _build(root, case, chosen, ordinal)


def _build(root: Path, case: str, chosen: Chosen, ordinal: int) -> Plan:
    return build(
        root,
        case,
        preset=chosen.get("preset") or TABLE,
        overrides=tuple(chosen.get("overrides") or ()),
        cluster=chosen.get("cluster"),
        data_dir=_from_root(chosen.get("data"), root),
        ordinal=ordinal,
    )


def _newest_ordinal(plan: Plan) -> int:
    """Return the highest ordinal among the submitted runs of a plan, 0 where there is none."""
    submitted = plan.paths.root.parent.glob(f"{plan.run_id}*/events.jsonl")
    return max((ordinal_of(path.parent.name) for path in submitted), default=0)


def plans_of(cases: Sequence[str], chosen: Chosen) -> list[Plan]:
    """Build the plans of several cases; raise the problems of all of them at once."""
    plans, problems = [], []
    for case in cases:
        try:
            plans.append(plan_of(case, chosen))
        except UserError as error:
            problems.append(error)
    raise_all(problems)
    return plans


def choose_place(*, locally: bool) -> Place:
    return Place(None if locally or not slurm_is_here() else discover())


def launch(plans: Sequence[Plan], *, locally: bool, is_agreed: Callable[[], bool]) -> list[Submission]:
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
            submissions.append(submit(plan, locally=place.cluster is None))
            tables.result(_sentence(submissions[-1]))
        except UserError as error:
            problems.append(error)
    if submissions:
        tables.talk(_what_next(submissions))
    raise_all(problems)
    return submissions


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


def cancel(wanted: str | None) -> None:
    """Let the one live run that is meant save and leave; the ledger knows before any process does."""
    root = runs.find_root()
    if wanted is None:
        raise UserError("which run?", fix="name a case or a run; `hpc status` lists them")
    candidates = runs.matching(root, wanted)
    live = [run for run in candidates if not run.history.finished and not run.history.is_over]
    if not live:
        tables.result(f"{candidates[-1].name} is not running")
        return
    if len(live) > 1:
        names = ", ".join(run.name for run in live)
        raise UserError(f"{wanted!r} means several runs", fix=f"name one: {names}")
    _cancel(live[0])


def _cancel(run: Run) -> None:
    holder = local_holder(run.paths) if run.history.executor == "local" else None
    if holder and holder.host != socket.gethostname():
        raise UserError(f"{run.name} runs on {holder.host}", fix="cancel it there")
    Ledger(run.paths.events).append("cancelled")
    if holder:
        os.kill(holder.pid, signal.SIGTERM)
    elif run.history.executor == "slurm":
        _cancel_jobs(run)
    tables.result(f"{run.name}: cancelled; if it is at work, it saves and leaves")


def _cancel_jobs(run: Run) -> None:
    own = [job.job_id for job in scheduler.queue() if job.name == run.paths.job_name]
    job_ids = [job_id for job_id in run.history.job_ids if job_id in own]
    refusal = scheduler.cancel(job_ids) if job_ids else None
    if refusal:
        what = f"Slurm does not cancel {', '.join(job_ids)}: {refusal.text}"
        raise UserError(what, fix=f"try: scancel {' '.join(job_ids)}", exit_code=ExitCode.FAILED)


def report(run: Run) -> ExitCode:
    """Let the training program write a run's report again."""
    answer = shell.run([sys.executable, "-m", "stockpred", "report", str(run.paths.root)], timeout_s=600)
    if not answer.is_ok:
        raise UserError(
            f"no report was written: {answer.err.strip()}",
            fix="let the run finish first",
            exit_code=ExitCode.FAILED,
        )
    tables.result(answer.out)
    return ExitCode.OK


def demo(case: str, preset: str, *, locally: bool) -> ExitCode:
    """Train a small case on two ranks, interrupt it once, let it resume, and show its report."""
    plan = plan_of(case, {"preset": preset, "fresh": True})
    (submission,) = launch([plan], locally=locally, is_agreed=lambda: True)
    paths = submission.paths

    def interrupt_once(views: list[RunView]) -> None:
        (view,) = views
        is_far = view.total_steps and (view.step or 0) >= DEMO_INTERRUPT_AT * view.total_steps
        if view.attempt == 1 and is_far and not paths.stop_wish.exists():
            tables.talk(f"*** interrupting attempt 1 at step {view.step}, as a time limit would")
            records.write_json(paths.stop_wish, {"attempt": 1})

    views = _follow([paths], on_tick=interrupt_once)
    history = Ledger(paths.events).history()
    if any(view.state is not RunState.FINISHED for view in views.values()):
        return ExitCode.FAILED
    for attempt in history.attempts:
        steps = f"step {attempt.first_step or 0} to {attempt.committed_step}"
        tables.result(f"attempt {attempt.number}: {steps}, ended by {attempt.cause}")
    tables.result(f"report: {paths.report}")
    return ExitCode.OK


def attempt(case: str, run_id: str, words: Sequence[str], chosen: Chosen) -> ExitCode:
    """Carry one attempt inside a Slurm job; ``words`` are the overrides and the command that starts ranks.

    A script that was submitted by hand makes its run directory here.
    """
    overrides = list(takewhile(lambda word: "=" in word, words))
    command = list(words[len(overrides) :])
    paths = RunPaths(runs.find_root() / "runs" / case / run_id)
    if not paths.config.exists():
        write_run(plan_of(case, {**chosen, "overrides": overrides}, run_id=run_id))
    retry = records.read_json(paths.plan)["retry"]
    return run_slurm_attempt(paths, command, retry_limits(retry))


def start_local(case: str | None, run_id: str, chosen: Chosen) -> None:
    start_local_run(plan_of(case, chosen, run_id=run_id))


def _from_root(directory: str | None, root: Path) -> str | None:
    """Return a directory that was typed here as a job that runs in ``root`` finds it."""
    if directory is None or Path.cwd() == root or Path(directory).is_absolute():
        return directory
    return os.path.relpath(directory, root)


def _same_run(plan: Plan, run_id: str) -> Plan:
    if plan.run_id != run_id:
        raise UserError(
            f"the case has changed: this script was made for run {run_id}, the case now makes {plan.run_id}",
            where=f"cases/{plan.case}/config.yaml",
            fix="make the script again with `hpc render`, or submit the case",
        )
    return plan


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
                tables.talk(f"{event.run}: {event.text}" if len(paths) > 1 else event.text)
            else:
                views[event.view.run] = event.view
                tables.talk(
                    f"*** {event.view.run}: {event.view.state.value}, attempt {event.view.attempt}"
                    f" ({event.view.sentence})"
                )
    except KeyboardInterrupt:
        tables.talk("no longer following; the run goes on. Stop it with: hpc cancel RUN")
        sys.exit(ExitCode.INTERRUPTED)
    return views


def _check(plans: Sequence[Plan], place: Place) -> None:
    problems: list[UserError] = []
    for plan in plans:
        checks = check(plan, place.cluster)
        for item in checks:
            if item.verdict is Verdict.WARN:
                tables.talk(f"warning: {plan.case}: {item.what}")
        problems.extend(failures(checks))
    raise_all(problems)


def _preview(plans: Sequence[Plan], place: Place) -> str:
    sizes = model_sizes(plans[0].root, [plan.config for plan in plans])
    header = ("case", "preset", "run", "parameters", "ranks", "limit", "GPU-hours at most")
    rows = [_row(plan, size) for plan, size in zip(plans, sizes, strict=True)]
    state = f"\n{place.cluster.summary()}" if place.cluster else ""
    table = tables.lines([header, *rows] if place.cluster else [row[:-1] for row in [header, *rows]])
    total = sum(upper_bound(plan.resources).gpu_hours for plan in plans)
    sum_line = f"\n{count(len(plans), 'case')}, at most {total:.0f} GPU-hours for each attempt"
    return f"on {place.name}{state}\n{table}{sum_line if place.cluster and len(plans) > 1 else ''}"


def _row(plan: Plan, size: int | None) -> tuple[str, ...]:
    return (
        plan.case,
        plan.preset,
        plan.run_id,
        f"{size / 1e6:.2f}M" if size else "-",
        f"{plan.resources.nodes} x {plan.resources.gpus}",
        plan.resources.limit,
        f"{upper_bound(plan.resources).gpu_hours:.0f}",
    )


def _sentence(submission: Submission) -> str:
    name = f"{submission.paths.case}/{submission.paths.run_id}"
    if submission.outcome is Outcome.FINISHED:
        return f"{name} was finished before: {submission.paths.report} (--fresh starts another)"
    return f"{name} {submission.outcome.value} as job {submission.job_id}"


def _what_next(submissions: Sequence[Submission]) -> str:
    case = "|".join(submission.paths.case for submission in submissions)
    return f"next: make status, make logs CASE={case}, make monitor, make cancel CASE={case}"
