"""The next-token task's part of a summary: each case's models and seeds beside unigram and bigram."""

from __future__ import annotations

from pathlib import Path

from stockpred.report.runfiles import RunFiles
from stockpred.report.summary.gather import Gathered, Reader, same_errors
from stockpred.report.summary.task_part import TaskPart, TaskSummary
from stockpred.tasks.next_token import results as results_file
from stockpred.tasks.next_token.results import NextTokenResults
from stockpred.tasks.next_token.summary import headline, page, rows, tables


def summarise(gathered: Gathered[NextTokenResults], folder: Path) -> TaskSummary:
    """Return the summary of runs; links to reports are relative to ``folder``."""
    cases = rows.of(gathered)
    return TaskSummary(
        headline=headline.headline(gathered, cases),
        cautions=tuple(headline.cautions(cases)),
        table=tables.for_terminal(cases),
        csv=tables.to_csv(cases),
        tiles=tuple(page.tiles(cases)),
        sections=page.sections(gathered, cases, folder),
    )


def _case(files: RunFiles, results: NextTokenResults | None) -> str:
    return files.case


def _same_bars(one: NextTokenResults, other: NextTokenResults) -> bool:
    """Say whether the last value, which knows nothing but the bars, did the same in both."""
    if _period(one) != _period(other):
        return False
    first, second = one.rival("last_value"), other.rival("last_value")
    return same_errors((first.mae_bp, first.rmse_bp), (second.mae_bp, second.rmse_bp))


def _period(results: NextTokenResults) -> tuple[int, int, str, str]:
    return results.num_bars, results.num_assets, results.first_time, results.last_time


PART = TaskPart(Reader(results=results_file.read, subject=_case, same_bars=_same_bars), summarise)
