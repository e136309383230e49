"""What the report of a run says of its test."""

from __future__ import annotations

from hpc.base import records
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import TaskReport


def read(files: RunFiles) -> TaskReport:
    """Return the task's own part of a run's report."""
    results = records.read_json_if_any(files.paths.test_results)
    if results is None:
        return TaskReport()
    return TaskReport(model_facts=(("days right", f"{100 * results['share_right']:.1f} %"),))
