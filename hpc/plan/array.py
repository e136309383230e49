"""Several runs of a case that differ in one setting, planned as one job: Slurm's array, or a pool here."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc.base import text, yamlfile
from hpc.base.errors import UserError, raise_all
from hpc.plan.config import Config
from hpc.plan.plan import Plan
from hpc.plan.resources import Resources
from hpc.plan.sbatch import Expanded, Script, Tasks, render
from hpc.run.paths import RunPaths, run_dir


@dataclass(frozen=True)
class ArrayPlan:
    """The runs of an array, in the order of its values; ``chosen`` are those to submit."""

    runs: tuple[Plan, ...]
    key: str
    values: tuple[str, ...]
    at_once: int | None
    overrides: tuple[str, ...]
    chosen: tuple[int, ...]

    @property
    def root(self) -> Path:
        return self.runs[0].root

    @property
    def case(self) -> str:
        return self.runs[0].case

    @property
    def preset(self) -> str:
        return self.runs[0].preset

    @property
    def resources(self) -> Resources:
        return self.runs[0].resources

    @property
    def config(self) -> Config:
        return self.runs[0].config

    @property
    def array_id(self) -> str:
        """The same runs make the same array, whichever of them are submitted."""
        names = "\n".join(run.run_id for run in self.runs)
        return f"{self.preset}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"

    @property
    def run_dir(self) -> str:
        """The array's directory, relative to ``root``; it lies beside those of its runs."""
        return run_dir(self.case, self.array_id)

    @property
    def paths(self) -> RunPaths:
        return self.runs[0].paths.array(self.array_id)

    @cached_property
    def script(self) -> str:
        """The sbatch script: each task finds its run by its number."""
        preset, cluster = self.preset, self.runs[0].cluster
        script = Script(
            root=self.root,
            case=self.case,
            name=self.array_id,
            run_dir=run_dir(self.case, "$run"),
            log=f"{self.run_dir}/logs/task_%a.log",
            resources=self.resources,
            recipe=(
                *("--case", self.case, "--preset", preset, "--array", self.array_id),
                *("--run-id", Expanded('"$run"')),
                *(("--cluster", cluster) if cluster else ()),
                *self.overrides,
                Expanded(f'"{self.key}=$value"'),
            ),
            python=sys.executable,
            tasks=Tasks(
                tuple(run.run_id for run in self.runs), self.values, chosen=self.chosen, at_once=self.at_once
            ),
        )
        return render(self.root, script)

    def restricted_to(self, run_ids: Sequence[str]) -> ArrayPlan:
        """Return the array with only some of its runs to submit."""
        chosen = (index for index, run in enumerate(self.runs) if run.run_id in run_ids)
        return replace(self, chosen=tuple(chosen))

    @property
    def chosen_runs(self) -> tuple[tuple[int, Plan], ...]:
        """The runs to submit, each with its number in the array."""
        return tuple((index, self.runs[index]) for index in self.chosen)

    def to_json(self) -> dict[str, Any]:
        """Return what the array's plan.json holds."""
        return {
            "case": self.case,
            "preset": self.preset,
            "array": self.array_id,
            "key": self.key,
            "values": list(self.values),
            "run_ids": [run.run_id for run in self.runs],
            "at_once": self.at_once,
        }


AnyPlan = Plan | ArrayPlan
"""What one submit hands over: one run, or an array of them."""


def is_array(config: Config) -> bool:
    """Say whether a configuration means several runs: its array's setting is open, or has several values."""
    key = config.array.key
    if key is None or config.origin(key) == yamlfile.COMMAND_LINE:
        return False
    return config.value(key) is None or config.array.values is not None


def build(
    config: Config,
    values: Sequence[str],
    *,
    plan_with: Callable[[str], Plan],
    overrides: Sequence[str],
    only: Sequence[str] = (),
) -> ArrayPlan:
    """Plan one run for each of the array's values; ``only`` chooses some of them.

    ``plan_with`` makes the plan of the run with an override added. Raises every problem at once.
    """
    key = config.array.key
    assert key is not None
    raise_all(_wrong_values(config, key, values, only))
    chosen = [value for value in values if not only or value in only]
    plans: list[Plan] = []
    problems: dict[str, UserError] = {}
    for value in chosen:
        try:
            plans.append(plan_with(f"{key}={value}"))
        except UserError as error:
            problems.setdefault(str(error), error)
    raise_all(list(problems.values()))
    return ArrayPlan(
        runs=tuple(plans),
        key=key,
        values=tuple(chosen),
        at_once=config.array.at_once,
        overrides=tuple(overrides),
        chosen=tuple(range(len(plans))),
    )


def _wrong_values(config: Config, key: str, values: Sequence[str], only: Sequence[str]) -> list[UserError]:
    where = config.origin("array.values") or config.origin("array.key")
    if not values:
        return [UserError("array.values is empty", where=where, fix=f"list some values of {key}")]
    twice = sorted({value for value in values if list(values).count(value) > 1})
    repeated = [
        UserError(f"array.values has {value!r} twice", where=where, fix="keep one of the two")
        for value in twice
    ]
    unknown = [
        UserError(
            f"{value!r} is not one of the values of {key} in case {config.case}",
            where=yamlfile.COMMAND_LINE,
            fix=text.suggestion(value, values),
        )
        for value in only
        if value not in values
    ]
    return repeated + unknown
