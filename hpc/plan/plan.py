"""A plan: what would be submitted, as a value that can be printed, saved and compared.

Its run id is a hash of what is trained and on how many ranks, not of where, how long or for whose account: to
submit the same plan again is to continue the same run.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from hpc.base import text
from hpc.base.errors import UserError, raise_all
from hpc.plan import config
from hpc.plan.config import DATA_DIR, TABLE, Config
from hpc.plan.resources import Resources, Retry
from hpc.plan.sbatch import Script, render
from hpc.run.paths import LAYOUT, RunPaths, run_dir

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Plan:
    """One run as it would be submitted. ``run_dir`` is relative to ``root``."""

    root: Path
    case: str
    preset: str
    cluster: str | None
    overrides: tuple[str, ...]
    run_id: str
    signature: str
    config: Config
    script: str

    @property
    def run_dir(self) -> str:
        return run_dir(self.case, self.run_id)

    @property
    def runs(self) -> tuple[Plan, ...]:
        """The runs that this is a plan of: itself. An ``ArrayPlan`` has several."""
        return (self,)

    @property
    def paths(self) -> RunPaths:
        return RunPaths(self.root / self.run_dir)

    @property
    def resources(self) -> Resources:
        return self.config.resources

    @property
    def retry(self) -> Retry:
        return self.config.retry

    @property
    def num_tasks(self) -> int:
        return self.resources.num_tasks

    @property
    def config_text(self) -> str:
        """The run's config.yaml."""
        title = (
            f"{self.case}, preset {self.preset}, as resolved for {self.run_id}; each value with its origin"
        )
        return f"# {title}\n{self.config.dump()}"

    def to_json(self) -> dict[str, Any]:
        """Return what plan.json holds."""
        return {
            "layout": LAYOUT,
            "case": self.case,
            "preset": self.preset,
            "cluster": self.cluster,
            "overrides": list(self.overrides),
            "run_id": self.run_id,
            "member": member_of(self.config),
            "run_dir": self.run_dir,
            "signature": self.signature,
            "num_tasks": self.num_tasks,
            "resources": self.resources.model_dump(mode="json"),
            "retry": self.retry.model_dump(mode="json"),
        }


def build(
    root: Path,
    case: str,
    *,
    preset: str = TABLE,
    overrides: Sequence[str] = (),
    cluster: str | None = None,
    data_dir: str | None = None,
    ordinal: int = 1,
) -> Plan:
    """Resolve a case into a plan; raise every problem that the launcher knows of at once.

    ``data_dir`` is the override ``data.dir``. ``ordinal`` 2, 3, ... names further runs of the same plan.
    """
    _require_plain_names(case=case, preset=preset, cluster=cluster)
    if data_dir is not None:
        overrides = [f"{DATA_DIR}={data_dir}", *overrides]
    resolved = config.resolve(root, case, preset=preset, overrides=overrides, cluster=cluster)
    signature = signature_of(resolved)
    member = re.sub(r"[^A-Za-z0-9]+", "_", member_of(resolved) or "").strip("_")
    parts = (preset, member, signature[:8], str(ordinal) if ordinal > 1 else "")
    run_id = "-".join(part for part in parts if part)
    directory = run_dir(case, run_id)
    script = Script(
        root=root,
        case=case,
        name=run_id,
        run_dir=directory,
        log=f"{directory}/logs/job.log",
        resources=resolved.resources,
        recipe=_recipe(case, preset, run_id, cluster, overrides),
        python=sys.executable,
    )
    return Plan(
        root=root,
        case=case,
        preset=preset,
        cluster=cluster,
        overrides=tuple(overrides),
        run_id=run_id,
        signature=signature,
        config=resolved,
        script=render(root, script),
    )


def signature_of(resolved: Config) -> str:
    """Return the hash of what decides a run's numbers: the experiment and the number of ranks.

    ``data.dir`` says where the data lies, not which it is; the run itself compares the data's hash.
    """
    experiment = resolved.experiment
    section, name = DATA_DIR.split(".")
    if isinstance(experiment.get(section), dict):
        experiment[section] = {key: value for key, value in experiment[section].items() if key != name}
    content = {
        "case": resolved.case,
        "experiment": _canonical(experiment),
        "nodes": resolved.resources.nodes,
        "gpus": resolved.resources.gpus,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def ordinal_of(run_id: str) -> int:
    """Return 2 for ``small-0123abcd-2``, 1 for ``small-0123abcd``."""
    match = re.fullmatch(r".+-[0-9a-f]{8}-(\d+)", run_id)
    return int(match[1]) if match else 1


def _require_plain_names(**names: str | None) -> None:
    """Refuse names that would mean something in a path, a script or a file-name pattern of Slurm (%)."""
    raise_all(
        [
            UserError(
                f"{name!r} cannot name a {kind}",
                where="command line",
                fix="use letters, digits, - and _",
            )
            for kind, name in names.items()
            if name is not None and not text.is_plain_name(name)
        ]
    )


def member_of(resolved: Config) -> str | None:
    """Return what tells a run from the others of its array: the value of array.key; None for no array."""
    key = resolved.array.key
    return resolved.value(key) if key else None


def _recipe(
    case: str, preset: str, run_id: str, cluster: str | None, overrides: Sequence[str]
) -> tuple[str, ...]:
    chosen = ("--cluster", cluster) if cluster else ()
    return ("--case", case, "--preset", preset, "--run-id", run_id, *chosen, *overrides)


def _canonical(value: object) -> object:
    """Return equal things as equal text: 3e-4 and 0.0003 train the same model."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return str(Decimal(value).normalize())
    return value
