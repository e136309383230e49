"""From the words of the command line to plans."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc.base.errors import UserError, raise_all
from hpc.base.text import count
from hpc.plan import array, config
from hpc.plan.array import ArrayPlan
from hpc.plan.config import TABLE
from hpc.plan.plan import Plan, build, ordinal_of
from hpc.run import find

Chosen = Mapping[str, Any]


def plan_of(case: str | None, chosen: Chosen) -> Plan | ArrayPlan:
    """Build the plan of one case from the words of the command line.

    Its run, or each run of its array, is the newest with this configuration; ``fresh`` makes another.
    """
    root = find.find_root()
    if case is None or "=" in case:
        raise UserError("which case?", fix=f"name one: {', '.join(config.case_names(root))}")
    plan = _newest(root, case, chosen)
    only = find.names_in(chosen.get("only"))
    if not array.is_array(plan.config):
        if only:
            raise UserError(_is_single(plan), where="command line", fix="leave --only (STOCK=) out")
        config.check_together([plan.config], root)
        return plan
    whole = array.build(
        plan.config,
        root,
        plan_of=lambda word: _newest(root, case, chosen, word),
        overrides=plan.overrides,
        only=only,
    )
    return whole.runs[0] if len(only) == 1 else whole


def single_plan_of(case: str | None, chosen: Chosen) -> Plan:
    """Build the plan of a case that is one run; raise UserError for an array."""
    plan = plan_of(case, chosen)
    if isinstance(plan, Plan):
        return plan
    raise UserError(
        f"{plan.case} is {count(len(plan.runs), 'run')}, and this command takes one",
        fix=f"choose one: {plan.key}={plan.values[0]}",
    )


def plan_of_run(case: str, run_id: str, chosen: Chosen) -> Plan:
    """Build the plan of a run that has its name already; raise UserError where the case has changed since."""
    plan = _build(find.find_root(), case, chosen, ordinal_of(run_id))
    config.check_together([plan.config], plan.root)
    if plan.run_id != run_id:
        raise UserError(
            f"the case has changed: this script was made for run {run_id}, the case now makes {plan.run_id}",
            where=f"cases/{case}/config.yaml",
            fix="make the script again with `hpc render`, or submit the case",
        )
    return plan


def plans_of(cases: Sequence[str], chosen: Chosen) -> list[Plan | ArrayPlan]:
    """Build the plans of several cases; raise the problems of all of them at once."""
    plans, problems = [], []
    for case in cases:
        try:
            plans.append(plan_of(case, chosen))
        except UserError as error:
            problems.append(error)
    raise_all(problems)
    return plans


def _newest(root: Path, case: str, chosen: Chosen, *words: str) -> Plan:
    """Plan the newest run of this configuration, which the training program has not been asked about."""
    plan = _build(root, case, chosen, 1, *words)
    newest = _newest_ordinal(plan)
    ordinal = newest + 1 if chosen.get("fresh") else max(newest, 1)
    return plan if ordinal == 1 else _build(root, case, chosen, ordinal, *words)


def _build(root: Path, case: str, chosen: Chosen, ordinal: int, *words: str) -> Plan:
    data_dir = _from_root(chosen.get("data"), root)
    return build(
        root,
        case,
        preset=chosen.get("preset") or TABLE,
        overrides=(*(chosen.get("overrides") or ()), *words),
        cluster=chosen.get("cluster"),
        data_dir=data_dir,
        ordinal=ordinal,
        check=lambda _: [],
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
