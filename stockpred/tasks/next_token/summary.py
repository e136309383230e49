"""The next-token task's part of a summary: CRPS of the return by case."""

from __future__ import annotations

from stockpred.report.runfiles import RunFiles
from stockpred.report.summary.gather import Gathered, Reader
from stockpred.report.summary.rows import Measure
from stockpred.report.summary.task_part import Pictures, TaskPart
from stockpred.score.compare import CRPS


def _case(files: RunFiles) -> str:
    return f"{files.case}{files.fold}"


def _no_pictures(gathered: Gathered) -> Pictures:
    return Pictures()


PART = TaskPart(
    Reader(subject=_case, column_settings=("data.fold",)),
    Measure(CRPS, "CRPS, bp", lambda scores: scores.crps_bp, digits=2, claim_digits=3),
    subject_word="case",
    draw=_no_pictures,
)
