"""Submit: check the plans, show what would happen, ask, submit, and say what to type next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpc.attempt.submit import Submission, SubmitResult, submit
from hpc.base import yamlfile
from hpc.base.errors import ExitCode, UserError, raise_all
from hpc.base.text import count, parameters
from hpc.monitor import tables
from hpc.plan.array import AnyPlan, ArrayPlan
from hpc.plan.config import DATA_DIR
from hpc.plan.estimate import most_gpu_hours
from hpc.plan.finding import Finding, Severity, failures
from hpc.plan.from_args import CheckedPlan
from hpc.plan.plan import Plan
from hpc.plan.preflight import check
from hpc.slurm.cluster import Cluster, discover, slurm_is_here


@dataclass(frozen=True)
class Place:
    """Where jobs go: a cluster, or this machine when there is none."""

    cluster: Cluster | None

    @property
    def name(self) -> str:
        return f"Slurm cluster {self.cluster.name}" if self.cluster else "this machine (no Slurm)"


def choose_place(*, locally: bool) -> Place:
    return Place(None if _stays_here(locally=locally) else discover())


def _stays_here(*, locally: bool) -> bool:
    """Say whether jobs are processes of this machine; raise UserError for a Slurm that does not answer."""
    return locally or not slurm_is_here()


def launch(
    checked: Sequence[CheckedPlan], *, locally: bool, is_agreed: Callable[[], bool]
) -> list[Submission]:
    """Check the plans against the place, show what would happen, ask, and submit them."""
    place = choose_place(locally=locally)
    _refuse_failures(checked, place)
    tables.talk(_preview(checked, place))
    if not is_agreed():
        raise UserError("nothing was submitted", fix="answer y, or add --yes", exit_code=ExitCode.REFUSED)
    submissions: list[Submission] = []
    problems: list[UserError] = []
    for one in checked:
        try:
            made = submit(one.plan, packages=one.packages, locally=place.cluster is None)
            submissions += made
            tables.result("\n".join(map(_sentence, made)))
            _warn_of_other_data(one.plan, made)
        except UserError as error:
            problems.append(error)
    if submissions:
        tables.talk(_what_next([one.plan for one in checked]))
    raise_all(problems)
    return submissions


def refuse_missing_data(checked: CheckedPlan) -> None:
    """Raise what the training program misses of the data, all of it at once."""
    raise_all(failures(checked.findings))


def _refuse_failures(checked: Sequence[CheckedPlan], place: Place) -> None:
    """Warn of what may go wrong; raise what is sure to, the launcher's findings before the program's."""
    problems: list[UserError] = []
    for one in checked:
        findings = check(one.plan, place.cluster)
        _warn(one.plan, [*findings, *one.findings])
        problems += failures(findings)
    raise_all(problems)
    raise_all([error for one in checked for error in failures(one.findings)])


def _warn(plan: AnyPlan, findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.severity is Severity.WARN:
            tables.talk(f"warning: {plan.case}: {finding.what}")


def _preview(checked: Sequence[CheckedPlan], place: Place) -> str:
    plans = [one.plan for one in checked]
    header = ("case", "preset", "run", "parameters", "ranks", "limit", "GPU-hours at most")
    rows = [header, *(_row(one.plan, one.sizes[0]) for one in checked)]
    state = f"\n{place.cluster.summary()}" if place.cluster else ""
    table = tables.lines(rows if place.cluster else [row[:-1] for row in rows])
    total = sum(_gpu_hours(plan) for plan in plans)
    sum_line = f"\n{count(len(plans), 'case')}, at most {total:.0f} GPU-hours for each attempt"
    return f"on {place.name}{state}\n{table}{sum_line if place.cluster and len(plans) > 1 else ''}"


def what_submit_would_do(plans: Sequence[AnyPlan], *, locally: bool) -> str:
    """Say where a submit would take the plans, and as how many processes; for a dry run.

    A dry run needs no Slurm that answers: it says that a submit would be refused.
    """
    try:
        where = "this machine, without Slurm" if _stays_here(locally=locally) else "Slurm, by this script"
    except UserError as error:
        return f"nothing was submitted; a submit would be refused now: {error.what}"
    ranks = ", ".join(
        f"{plan.case}: {count(len(plan.runs), 'run')} of {count(plan.resources.num_tasks, 'rank')}"
        for plan in plans
    )
    return f"nothing was submitted; a submit would train on {where} ({ranks})"


def _gpu_hours(plan: AnyPlan) -> float:
    return len(plan.runs) * most_gpu_hours(plan.resources)


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


def _warn_of_other_data(plan: AnyPlan, made: Sequence[Submission]) -> None:
    """Say so where runs that exist were made from the data of another place than the one typed now."""
    asked = plan.config.value(DATA_DIR)
    section, name = DATA_DIR.split(".")
    kept = [one.paths for one in made if not one.result.needs_job and one.paths.config.exists()]
    places = {yamlfile.plain(yamlfile.load(paths.config))[section][name] for paths in kept} - {asked}
    if places:
        names = ", ".join(str(place) for place in sorted(places, key=str))
        tables.talk(f"warning: {plan.case}: these are runs on the data in {names}; --fresh trains on {asked}")


def _sentence(submission: Submission) -> str:
    name = f"{submission.paths.case}/{submission.paths.run_id}"
    if submission.result is SubmitResult.FINISHED:
        return f"{name} was finished before: {submission.paths.report} (--fresh starts another)"
    return f"{name} {submission.result.value} as job {submission.job_id}"


def _pace(plan: ArrayPlan) -> str:
    return f"{plan.at_once} at once" if plan.at_once else "side by side"


def _what_next(plans: Sequence[AnyPlan]) -> str:
    case = "|".join(plan.case for plan in plans)
    arrays = "|".join(plan.case for plan in plans if isinstance(plan, ArrayPlan))
    summary = f", make summary CASE={arrays}" if arrays else ""
    return f"next: make status, make logs CASE={case}, make monitor, make cancel CASE={case}{summary}"
