"""The forecast task's part of a summary: skill on returns by asset, and the newest forecasts of each."""

from __future__ import annotations

from stockpred.report.elements import Picture, Section
from stockpred.report.runfiles import RunFiles
from stockpred.report.summary.gather import Gathered, Reader, TestedRun
from stockpred.report.summary.rows import Measure
from stockpred.report.summary.task_part import Pictures, TaskPart
from stockpred.report.task_part import read_or_note
from stockpred.score.compare import SQUARED_ERROR
from stockpred.score.results import ForecasterScores
from stockpred.tasks.forecast import report


def _asset(files: RunFiles) -> str:
    named = files.assets[0].get("symbol") if files.assets else files.setting("data", "symbol")
    return f"{named or 'unknown asset'}{files.fold}"


def _skill_percent(scores: ForecasterScores) -> float | None:
    return None if scores.skill is None else 100.0 * scores.skill


def _draw(gathered: Gathered) -> Pictures:
    """Draw the newest run of each asset: to draw the best of several would flatter them."""
    problems: dict[TestedRun, list[str]] = {asset.newest: [] for asset in gathered.subjects}
    found = [picture for run, notes in problems.items() if (picture := _picture(run, notes)) is not None]
    unread = {run: notes for run, notes in problems.items() if notes}
    if not found:
        return Pictures((), unread)
    most = f"Of a longer period the last {report.MOST_BARS_DRAWN:,} bars are drawn."
    note = f"{report.legend('the model')} {report.HOW_TO_LOOK} {most}"
    return Pictures((Section("Forecasts of the next close", note, pictures=tuple(found)),), unread)


def _picture(run: TestedRun, notes: list[str]) -> Picture | None:
    table = read_or_note(run.paths.predictions, report.read_predictions, notes)
    if table is None or (drawn := table[table["split"] == run.judged.split]).empty:
        return None
    caption = f"{run.label}, {run.judged.split}: {report.skill_text(run.judged.pooled.model)}."
    model = run.judged.evaluated.model
    return report.picture(run.subject, model, drawn, title=run.subject, caption=caption)


PART = TaskPart(
    Reader(subject=_asset, column_settings=("data.symbol", "data.fold")),
    Measure(SQUARED_ERROR, "skill, %", _skill_percent, digits=2, claim_digits=4),
    subject_word="asset",
    draw=_draw,
)
