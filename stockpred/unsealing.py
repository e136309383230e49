"""Open the sealed test of a finished run: score its best weights on the test, write the report anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hpc.base.errors import UserError
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from stockpred.config import registry, schema
from stockpred.data.splits import Split
from stockpred.run import load_best

if TYPE_CHECKING:
    from stockpred.train.learner import Task


def open_test(paths: RunPaths) -> Iterator[str]:
    """Score the test with the best weights; yield a line for each forecaster, then the report's path.

    Raises UserError for a run that has not finished, and for one whose test is open already.
    """
    _require_sealed(paths)
    import torch

    from stockpred.report.build import build_report

    experiment = schema.load(paths.config)
    task: Task = registry.load_task(experiment.task.name).task(experiment, paths)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for network in task.learner.networks.values():
        network.to(device)
    yield from task.score(Split.TEST, load_best(task, paths), device, lambda: None)
    yield f"report: {build_report(paths)}"


def _require_sealed(paths: RunPaths) -> None:
    where = str(paths.root)
    if not Ledger(paths.events).history().finished:
        what = "this run has not finished, so there are no best weights to test"
        raise UserError(what, where=where, fix="wait for its end, or submit it again to continue")
    if paths.test_results.exists():
        raise UserError("the test of this run is open already", where=where, fix=f"read {paths.report}")
