"""The summary as one HTML page, in the look of a run's report."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from hpc.base import text
from stockpred.report import page
from stockpred.report.elements import (
    ABSENT,
    Alarm,
    Cell,
    Fold,
    Line,
    Picture,
    Section,
    Table,
    Tile,
    heads,
    line,
)
from stockpred.report.format import chance, direction, figure, number, p_value, percent, sentence, signed
from stockpred.report.sections import SYNTHETIC_WARNING
from stockpred.tasks.forecast import report as chapter
from stockpred.tasks.forecast.report_tables import skill_cell
from stockpred.tasks.forecast.report_verdict import skill
from stockpred.tasks.forecast.results import BETTER, WORSE
from stockpred.tasks.forecast.summary import words
from stockpred.tasks.forecast.summary.entries import Entry, compared
from stockpred.tasks.forecast.summary.gather import Asset, Gathered

MOST_NOTES = 3


def render(gathered: Gathered, entries: Sequence[Entry], folder: Path) -> str:
    """Return the page; links to reports are relative to ``folder``."""
    cases = ", ".join(dict.fromkeys(run.paths.case for asset in gathered.assets for run in asset.runs))
    return page.render(
        title=f"{cases} \u00b7 summary",
        run_line=f"{cases} \u00b7 summary of {text.count(sum(e.is_model for e in entries), 'run')}",
        alarms=tuple(_alarms(gathered)),
        verdict=words.verdict(gathered, entries),
        tiles=tuple(_tiles(entries)),
        sections=(_comparison(entries, folder, gathered), *_pictures(gathered), *_left_out(gathered)),
    )


def _alarms(gathered: Gathered) -> Iterator[Alarm]:
    synthetic = [asset.symbol for asset in gathered.assets if any(run.is_synthetic for run in asset.runs)]
    if len(synthetic) == len(gathered.assets):
        yield SYNTHETIC_WARNING
    elif synthetic:
        yield Alarm(f"Some bars are synthetic: {', '.join(synthetic)}.", SYNTHETIC_WARNING.text)
    if _is_folded(gathered):
        yield Alarm(_how_many(gathered), "The end of the page says which and why.")
    else:
        yield from (Alarm("Not in this summary.", sentence(told)) for told in gathered.left_out)
        yield from (Alarm("Warning.", sentence(told)) for told in gathered.damage)


def _is_folded(gathered: Gathered) -> bool:
    return len(gathered.notes) > MOST_NOTES


def _how_many(gathered: Gathered) -> str:
    told = {"not in this summary": len(gathered.left_out), "here without a picture": len(gathered.damage)}
    parts = [f"{text.count(number, 'run')} {_are(number)} {what}" for what, number in told.items() if number]
    return f"{', '.join(parts)}."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _tiles(entries: Sequence[Entry]) -> Iterator[Tile]:
    models = [entry for entry in entries if entry.is_model]
    count = {claim: sum(entry.verdict == claim for entry in models) for claim in (BETTER, WORSE)}
    undecided = len(models) - sum(count.values())
    yield Tile(
        "Models with skill",
        f"{count[BETTER]} of {len(models)}",
        f"{undecided} not told from zero, {count[WORSE]} worse",
    )
    skills = [100 * entry.scores.skill for entry in models if entry.scores.skill is not None]
    if skills:
        span = f"from {signed(min(skills), 2)} to {signed(max(skills), 2)}\u00a0%"
        yield Tile("Median skill", f"{signed(statistics.median(skills), 2)} %", span)
    least = min((entry for entry in models if entry.holm_p is not None), key=_holm_p, default=None)
    if least:
        yield Tile("Smallest p, corrected", chance(_holm_p(least)), least.name)
    right = _directions(models)
    up = _directions([entry for entry in entries if entry.scores.name == "always_up"])
    if right and up:
        beside = f"always-up {percent(statistics.median(up))}\u00a0%"
        yield Tile("Direction right, median", f"{percent(statistics.median(right))} %", beside)


def _directions(entries: Sequence[Entry]) -> list[float]:
    return [entry.scores.direction.share for entry in entries if entry.scores.direction]


def _holm_p(entry: Entry) -> float:
    return 1.0 if entry.holm_p is None else entry.holm_p


def _left_out(gathered: Gathered) -> Iterator[Section]:
    """List the runs that would bury the verdict if they stood above it."""
    if _is_folded(gathered):
        fold = Fold("Which runs, and why", "\n".join(gathered.notes))
        yield Section("Runs left out", _how_many(gathered), folds=(fold,))


def _comparison(entries: Sequence[Entry], folder: Path, gathered: Gathered) -> Section:
    columns = heads(
        "asset", "forecaster", "MSE", "MAE", "R\u00b2", "R\u00b2, returns", "skill, %", "DM p", "corrected",
        "direction, %", words=("asset", "forecaster"),
    )  # fmt: skip
    before = (None, *entries)
    rows = [_row(entry, folder, last) for entry, last in zip(entries, before, strict=False)]
    return Section(
        "Models and rivals",
        "An asset's rows are all scored on the same bars. MSE, MAE and R\u00b2 on prices, R\u00b2 against "
        "the mean of the scored outcomes. Skill: 1 \u2212 MSE / MSE of persistence, with its 95 % "
        "interval; DM p: Diebold-Mariano test of the squared errors against persistence; both with "
        "Newey-West errors by date. Corrected: the p value after Holm's correction for "
        f"{_tests(gathered)}. Drift: the last close plus the mean return of training. Direction: "
        "right signs with the 95 % interval, bars that did not move left out. A model's "
        "name leads to its report.",
        tables=(Table(columns, tuple(rows), is_words=True),),
    )


def _tests(gathered: Gathered) -> str:
    """Say how many looks at the test bars the correction counts."""
    counted = compared(gathered.assets)
    shown = {run.paths.root for asset in gathered.assets for run in asset.runs}
    older = sum(run.paths.root not in shown for run in counted)
    replaced = f", {older} of them by runs that newer ones replaced" if older else ""
    return f"all {text.count(len(counted), 'test')} on these bars{replaced}"


def _row(entry: Entry, folder: Path, before: Entry | None) -> Line:
    scores = entry.scores
    is_first = before is None or before.results.symbol != entry.results.symbol
    return line(
        [
            entry.results.symbol if is_first else "",
            Cell(scores.label, " ".join(entry.run.settings) if entry.run else "", _link(entry, folder)),
            figure(scores.mse_price),
            figure(scores.mae_price),
            number(scores.r2_price, 4),
            number(scores.r2_return, 4),
            skill_cell(scores.skill, scores.skill_interval),
            p_value(scores.versus_persistence),
            ABSENT if entry.holm_p is None else chance(entry.holm_p),
            direction(scores.direction),
        ],
        is_ours=entry.is_model,
    )


def _link(entry: Entry, folder: Path) -> str:
    """Return the relative address of a model's report; nothing where there is none."""
    if entry.run is None or not entry.run.paths.report.exists():
        return ""
    return quote(Path(os.path.relpath(entry.run.paths.report, folder)).as_posix())


def _pictures(gathered: Gathered) -> Iterator[Section]:
    figures = tuple(_picture(asset) for asset in gathered.assets if asset.newest.predictions is not None)
    if figures:
        most = f"Of a longer test the last {chapter.MOST_BARS_DRAWN:,} bars are drawn."
        yield Section(
            "Forecasts of the next close",
            f"{chapter.legend('the model')} {chapter.HOW_TO_LOOK} {most}",
            figures=figures,
        )


def _picture(asset: Asset) -> Picture:
    """Draw the newest run of an asset: to draw the best of several would flatter them."""
    results, predictions = asset.newest.results, asset.newest.predictions
    assert predictions is not None
    model = results.model
    caption = f"{asset.newest.label}: {skill(model.skill, model.skill_interval)}."
    return chapter.picture(results, predictions, title=asset.symbol, caption=caption)
