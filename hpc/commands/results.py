"""Let the training program write reports and summaries of runs."""

from __future__ import annotations

import sys

from hpc.base import records, shell
from hpc.base.errors import ExitCode, UserError
from hpc.monitor import tables
from hpc.plan.config import case_names
from hpc.run.find import OLDER, OLDER_FIX, Run, find_root, matching, refuse_older
from hpc.run.paths import RunPaths

TIMEOUT_S = 600.0


def report(run: Run) -> None:
    """Let the training program write a run's report again."""
    refuse_older(run)
    command = [sys.executable, "-m", "stockpred", "report", str(run.paths.root)]
    answer = shell.run(command, timeout_s=TIMEOUT_S)
    if not answer.is_ok:
        raise UserError(
            f"no report was written: {answer.err.strip()}",
            fix="let the run finish first",
            exit_code=ExitCode.FAILED,
        )
    tables.result(answer.out)


def summarise(case: str | None, preset: str | None) -> ExitCode:
    """Let the training program put the results of a case's runs side by side, those of one preset."""
    root = find_root()
    if case is None:
        raise UserError("which case?", fix=f"name one: {', '.join(case_names(root))}")
    runs = _without_older([run for run in matching(root, case) if run.paths.plan.exists()], case)
    presets = {run.paths: str(records.read_json(run.paths.plan)["preset"]) for run in runs}
    chosen = preset or presets[runs[-1].paths]
    own = [run for run in runs if presets[run.paths] == chosen]
    if not own:
        known = ", ".join(sorted(set(presets.values())))
        raise UserError(f"case {case} has no run of preset {chosen!r}", fix=f"there are runs of: {known}")
    out = RunPaths.of(root, case, f"summary-{chosen}").root
    run_dirs = [str(run.paths.root) for run in sorted(_worth_showing(own), key=_place_in_array)]
    command = [sys.executable, "-m", "stockpred", "summary", "--out", str(out), *run_dirs]
    answer = shell.run(command, timeout_s=TIMEOUT_S, cwd=root)
    if answer.out:
        tables.result(answer.out)
    if answer.err:
        tables.talk(answer.err.rstrip())
    return ExitCode.OK if answer.is_ok else ExitCode.FAILED


def _without_older(runs: list[Run], case: str) -> list[Run]:
    """Leave out the runs of an older version, a line for each; raise UserError where no other is left."""
    kept = [run for run in runs if not run.is_older]
    if not kept:
        raise UserError(OLDER, where=str(runs[-1].paths.root) if runs else case, fix=OLDER_FIX)
    for run in runs:
        if run.is_older:
            tables.talk(f"left out: {run.name}: {OLDER}")
    return kept


def _worth_showing(runs: list[Run]) -> list[Run]:
    """Return the finished runs, and all of the newest array, which says what is still missing."""
    newest = runs[-1].history.array
    return [
        run
        for run in runs
        if run.history.finished or run is runs[-1] or (newest is not None and run.history.array == newest)
    ]


def _place_in_array(run: Run) -> tuple[int, str]:
    """Return where a run stands in its array; runs outside of one come last, by name."""
    member = (records.read_json_if_any(run.paths.plan) or {}).get("member")
    array = run.history.array
    plan = records.read_json_if_any(run.paths.array(array).plan) if array else None
    values = plan["values"] if plan else []
    return (values.index(member) if member in values else len(values), run.paths.run_id)
