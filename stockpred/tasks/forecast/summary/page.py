"""Tiles and sections of a forecast summary's page."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from stockpred.report.elements import Cell, Picture, Section, Table, TableRow, Tile, heads, table_row
from stockpred.report.format import number, p_value, percent, share_cell, signed, significant
from stockpred.report.summary.correction import counted_tests
from stockpred.report.summary.gather import Gathered, SubjectRuns
from stockpred.report.summary.page import report_link
from stockpred.tasks.forecast import report
from stockpred.tasks.forecast.results import BETTER, WORSE, ForecastResults
from stockpred.tasks.forecast.summary.entries import Entry, compared


def sections(
    gathered: Gathered[ForecastResults], entries: Sequence[Entry], folder: Path
) -> tuple[Section, ...]:
    """Return the comparison and the pictures; links to reports are relative to ``folder``."""
    return (_comparison(entries, folder, gathered), *_pictures(gathered))


def tiles(entries: Sequence[Entry]) -> Iterator[Tile]:
    models = [entry for entry in entries if entry.is_model]
    count = {claim: sum(entry.corrected_skill == claim for entry in models) for claim in (BETTER, WORSE)}
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
        yield Tile("Smallest p, corrected", p_value(_holm_p(least)), least.name)
    right = _directions(models)
    up = _directions([entry for entry in entries if entry.scores.name == "always_up"])
    if right and up:
        beside = f"always-up {percent(statistics.median(up))}\u00a0%"
        yield Tile("Direction right, median", f"{percent(statistics.median(right))} %", beside)


def _directions(entries: Sequence[Entry]) -> list[float]:
    return [entry.scores.direction.share for entry in entries if entry.scores.direction]


def _holm_p(entry: Entry) -> float:
    return 1.0 if entry.holm_p is None else entry.holm_p


def _comparison(entries: Sequence[Entry], folder: Path, gathered: Gathered[ForecastResults]) -> Section:
    columns = heads(
        "asset", "forecaster", "MSE", "MAE", "R\u00b2", "R\u00b2, returns", "skill, %", "DM p", "corrected",
        "direction, %", text_columns=("asset", "forecaster"),
    )  # fmt: skip
    before = (None, *entries)
    rows = [_row(entry, folder, last) for entry, last in zip(entries, before, strict=False)]
    return Section(
        "Models and rivals",
        "An asset's rows are all scored on the same bars. MSE, MAE and R\u00b2 on prices, R\u00b2 against "
        "the mean of the scored outcomes. Skill: 1 \u2212 MSE / MSE of persistence, with its 95 % "
        "interval; DM p: Diebold-Mariano test of the squared errors against persistence; both with "
        "Newey-West errors by date. Corrected: the p value after Holm's correction for "
        f"{counted_tests(gathered, compared(gathered))}. Drift: the last close plus the mean return of "
        "training. Direction: right signs with the 95 % interval, bars that did not move left out. A model's "
        "name leads to its report.",
        tables=(Table(columns, tuple(rows), has_long_text=True),),
    )


def _row(entry: Entry, folder: Path, before: Entry | None) -> TableRow:
    scores = entry.scores
    is_first = before is None or before.results.symbol != entry.results.symbol
    return table_row(
        [
            entry.results.symbol if is_first else "",
            _forecaster(entry, folder),
            significant(scores.mse_price),
            significant(scores.mae_price),
            number(scores.r2_price, 4),
            number(scores.r2_return, 4),
            report.skill_cell(scores.skill, scores.skill_interval),
            p_value(scores.versus_persistence),
            p_value(entry.holm_p),
            share_cell(scores.direction),
        ],
        is_model=entry.is_model,
    )


def _forecaster(entry: Entry, folder: Path) -> Cell:
    if entry.run is None:
        return Cell(entry.scores.label)
    return Cell(entry.scores.label, " ".join(entry.run.settings), report_link(entry.run, folder))


def _pictures(gathered: Gathered[ForecastResults]) -> Iterator[Section]:
    pictures = tuple(_picture(asset) for asset in gathered.subjects if asset.newest.predictions is not None)
    if pictures:
        most = f"Of a longer test the last {report.MOST_BARS_DRAWN:,} bars are drawn."
        yield Section(
            "Forecasts of the next close",
            f"{report.legend('the model')} {report.HOW_TO_LOOK} {most}",
            pictures=pictures,
        )


def _picture(asset: SubjectRuns[ForecastResults]) -> Picture:
    """Draw the newest run of an asset: to draw the best of several would flatter them."""
    results, predictions = asset.newest.results, asset.newest.predictions
    assert predictions is not None
    model = results.model
    caption = f"{asset.newest.label}: {report.skill_text(model.skill, model.skill_interval)}."
    return report.picture(results, predictions, title=asset.subject, caption=caption)
