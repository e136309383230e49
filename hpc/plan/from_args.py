"""From the arguments of a command to plans, checked by the training program in one question."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpc.base.errors import UserError, raise_all
from hpc.base.text import count
from hpc.plan import array, program
from hpc.plan.array import AnyPlan
from hpc.plan.config import TABLE, case_names, errors_of, require_key
from hpc.plan.finding import Finding, failures
from hpc.plan.plan import Plan, build, ordinal_of
from hpc.plan.program import CaseAnswer, Question, Topic
from hpc.run.find import find_root


@dataclass(frozen=True)
class PlanRequest:
    """What a person chose on the command line. ``only`` names runs of the case's array."""

    case: str | None
    preset: str = TABLE
    overrides: tuple[str, ...] = ()
    data: str | None = None
    only: tuple[str, ...] = ()
    cluster: str | None = None
    fresh: bool = False


@dataclass(frozen=True)
class CheckedPlan:
    """A plan and what the training program says about it.

    ``sizes`` counts the parameters of each run's model, None where that was not asked. ``packages`` are those
    that a result depends on.
    """

    plan: AnyPlan
    findings: tuple[Finding, ...]
    sizes: tuple[int | None, ...]
    packages: tuple[str, ...]


def checked_plans(requests: Sequence[PlanRequest], topics: Sequence[Topic] = ()) -> list[CheckedPlan]:
    """Build the plans of several cases and let the training program check all of them at once.

    A case's run, or each run of its array, is the newest with this configuration; ``fresh`` makes another.
    Raises the problems of all cases at once.
    """
    root = find_root()
    drafts: list[_Draft] = []
    problems: list[UserError] = []
    for request in requests:
        try:
            drafts.append(_draft(root, request))
        except UserError as error:
            problems.append(error)
    raise_all(problems)
    answer = program.ask(root, [draft.question for draft in drafts], topics)
    plans: list[CheckedPlan] = []
    for draft, case_answer in zip(drafts, answer.cases, strict=True):
        try:
            plans.append(_checked(root, draft, case_answer, answer.packages))
        except UserError as error:
            problems.append(error)
    raise_all(problems)
    return plans


def checked_plan(request: PlanRequest, topics: Sequence[Topic] = ()) -> CheckedPlan:
    """Build the plan of one case and let the training program check it."""
    (planned,) = checked_plans([request], topics)
    return planned


def plan_from(request: PlanRequest) -> AnyPlan:
    """Return the checked plan of one case alone."""
    return checked_plan(request).plan


def single_plan_from(request: PlanRequest, topics: Sequence[Topic] = ()) -> CheckedPlan:
    """Build the plan of a case that is one run; raise UserError for an array."""
    checked = checked_plan(request, topics)
    plan = checked.plan
    if isinstance(plan, Plan):
        return checked
    raise UserError(
        f"{plan.case} is {count(len(plan.runs), 'run')}, and this command takes one",
        fix=f"choose one: {plan.key}={plan.values[0]}",
    )


def plan_of_run(request: PlanRequest, run_id: str) -> CheckedPlan:
    """Build the plan of a run that has its id already; raise UserError where the case has changed since."""
    root = find_root()
    plan = _build(root, request, ordinal_of(run_id))
    answer = program.ask(root, [Question((plan.config.experiment,))])
    checked = _checked(root, _Draft(request, plan, (plan,)), answer.cases[0], answer.packages)
    if plan.run_id != run_id:
        raise UserError(
            f"the case has changed: this script was made for run {run_id}, the case now makes {plan.run_id}",
            where=f"cases/{plan.case}/config.yaml",
            fix="make the script again with `hpc render`, or submit the case",
        )
    return checked


@dataclass(frozen=True)
class _Draft:
    """A case's plan before the program was asked; the plans of an open array's runs are not known yet."""

    request: PlanRequest
    base: Plan
    plans: tuple[Plan, ...]
    array: AnyPlan | None = None

    @property
    def question(self) -> Question:
        if self.plans:
            return Question(tuple(plan.config.experiment for plan in self.plans))
        return Question((self.base.config.experiment,), self.base.config.array.key, self.request.only)


def _draft(root: Path, request: PlanRequest) -> _Draft:
    if request.case is None or "=" in request.case:
        raise UserError("which case?", fix=f"name one: {', '.join(case_names(root))}")
    base = _newest(root, request)
    if not array.is_array(base.config):
        if request.only:
            raise UserError(_is_single(base), where="command line", fix="leave --only out")
        return _Draft(request, base, (base,))
    values = base.config.array.values
    if values is None:
        require_key(base.config, str(base.config.array.key), base.root)
        return _Draft(request, base, ())
    whole = _array(root, request, base, values)
    return _Draft(request, base, whole.runs, whole)


def _checked(root: Path, draft: _Draft, answer: CaseAnswer, packages: tuple[str, ...]) -> CheckedPlan:
    """Join a draft with its answer; raise what the program has against the case, each problem once."""
    config = draft.base.config
    findings = tuple(_placed(finding, draft.base) for finding in answer.findings)
    plan: AnyPlan = draft.array or draft.base
    if not draft.plans:
        if answer.values is None:
            raise_all(failures(findings))
            raise UserError(
                f"array.values is not set for {config.array.key}",
                where=config.origin("array.key"),
                fix=f"list its values: array.values=[...], or choose one: {config.array.key}=...",
            )
        plan = _array(root, draft.request, draft.base, answer.values)
    problems: dict[str, UserError] = {}
    for run, run_answer in zip(plan.runs, answer.runs, strict=True):
        for error in errors_of(run.config, run_answer.problems):
            problems.setdefault(str(error), error)
    raise_all(list(problems.values()))
    if isinstance(plan, array.ArrayPlan) and len(draft.request.only) == 1:
        plan = plan.runs[0]
    return CheckedPlan(plan, findings, tuple(run.size for run in answer.runs), packages)


def _placed(finding: Finding, plan: Plan) -> Finding:
    """Put the place that set a value where the program names the value's key; a file stays as it is."""
    where = finding.where or ""
    is_key = where.partition(".")[0] in plan.config.tree
    return replace(finding, where=plan.config.origin(where)) if is_key else finding


def _array(root: Path, request: PlanRequest, base: Plan, values: Sequence[str]) -> array.ArrayPlan:
    return array.build(
        base.config,
        values,
        plan_with=lambda override: _newest(root, request, override),
        overrides=base.overrides,
        only=request.only,
    )


def _newest(root: Path, request: PlanRequest, *overrides: str) -> Plan:
    """Plan the newest run of this configuration, not checked by the program yet."""
    plan = _build(root, request, 1, *overrides)
    newest = _newest_ordinal(plan)
    ordinal = newest + 1 if request.fresh else max(newest, 1)
    return plan if ordinal == 1 else _build(root, request, ordinal, *overrides)


def _build(root: Path, request: PlanRequest, ordinal: int, *overrides: str) -> Plan:
    assert request.case is not None
    return build(
        root,
        request.case,
        preset=request.preset,
        overrides=(*request.overrides, *overrides),
        cluster=request.cluster,
        data_dir=_from_root(request.data, root),
        ordinal=ordinal,
    )


def _newest_ordinal(plan: Plan) -> int:
    """Return the highest ordinal among the submitted runs of a plan, 0 where there is none."""
    submitted = plan.paths.root.parent.glob(f"{plan.run_id}*/events.jsonl")
    return max((ordinal_of(path.parent.name) for path in submitted), default=0)


def _from_root(directory: str | None, root: Path) -> str | None:
    """Return a directory that was typed here as a job that runs in ``root`` finds it."""
    if directory is None or Path.cwd() == root or Path(directory).is_absolute():
        return directory
    return os.path.relpath(directory, root)


def _is_single(plan: Plan) -> str:
    key = plan.config.array.key
    if key is None:
        return f"case {plan.case} is one run: it has no array.key"
    return f"case {plan.case} is one run here: {key} is set"
