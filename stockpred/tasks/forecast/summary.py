"""The forecast task's part of a summary: skill on returns by asset, and the newest forecasts of each."""

from __future__ import annotations

from stockpred.report.elements import Picture, Section
from stockpred.report.runfiles import RunFiles
from stockpred.report.summary.gather import Gathered, Reader, SubjectRuns
from stockpred.report.summary.rows import Measure
from stockpred.report.summary.task_part import TaskPart
from stockpred.report.task_part import read_or_note
from stockpred.score.compare import SQUARED_ERROR
from stockpred.score.results import ForecasterScores
from stockpred.tasks.forecast import report


def _asset(files: RunFiles) -> str:
    named = files.assets[0].get("symbol") if files.assets else files.setting("data", "symbol")
    return f"{named or 'unknown asset'}{files.fold}"


def _skill_percent(scores: ForecasterScores) -> float | None:
    return None if scores.skill is None else 100.0 * scores.skill


def _pictures(gathered: Gathered) -> tuple[Section, ...]:
    found = [picture for subject in gathered.subjects if (picture := _picture(subject)) is not None]
    if not found:
        return ()
    most = f"Of a longer period the last {report.MOST_BARS_DRAWN:,} bars are drawn."
    note = f"{report.legend('the model')} {report.HOW_TO_LOOK} {most}"
    return (Section("Forecasts of the next close", note, pictures=tuple(found)),)


def _picture(asset: SubjectRuns) -> Picture | None:
    """Draw the newest run of an asset: to draw the best of several would flatter them."""
    run = asset.newest
    table = read_or_note(run.paths.predictions, report.read_predictions, [])
    if table is None:
        return None
    drawn = table[table["split"] == run.judged.split]
    caption = f"{run.label}: {report.skill_text(run.judged.pooled.model)}."
    model = run.judged.evaluated.model
    return report.picture(asset.subject, model, drawn, title=asset.subject, caption=caption)


PART = TaskPart(
    Reader(subject=_asset, column_settings=("data.symbol", "data.fold")),
    Measure(SQUARED_ERROR, "skill, %", _skill_percent, digits=2),
    subject_word="asset",
    pictures=_pictures,
)
