"""The tables of a summary: for the terminal, for the page, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.base.text import count
from stockpred.report.elements import ABSENT, Cell, Section, Table, TableRow, heads, table_row
from stockpred.report.format import interval, number, p_value, plain, signed, with_sign
from stockpred.report.scores import ABOUT_CLAIMS, IN_WORDS, MEASURES
from stockpred.report.summary.correction import Correction
from stockpred.report.summary.page import report_link
from stockpred.report.summary.rows import Measure, ModelRow, RivalRow, SeedGroup, Spread, SubjectRows
from stockpred.score.results import ForecasterScores, GroupScores, SplitScores

_CSV_COLUMNS = (
    *("subject", "forecaster", "settings", "seed", "run_id", "split", "group", "is_unseen"),
    *("num_bars", "num_dates", "num_assets", "first_time", "last_time", "best_step"),
    *("nats", "crps_bp", "log_loss", "mae_bp", "rmse_bp", "skill", "spread_bp", "direction"),
    *("coverage_50", "coverage_80", "coverage_90", "ic", "rank_ic", "rank_ic_t"),
    *("mse_price", "mae_price", "r2_price"),
    *(f"{measure}_{what}" for measure in MEASURES for what in ("difference", "low", "high", "p_value")),
    "corrected_p",
)


@dataclass(frozen=True)
class TextTable:
    """Columns for the terminal: the first ``num_text_columns`` hold text, the others numbers.

    An empty line stands between ``blocks`` of rows.
    """

    heads: tuple[str, ...]
    blocks: tuple[tuple[tuple[str, ...], ...], ...]
    num_text_columns: int

    def text(self) -> str:
        """Return the table with text aligned left and numbers right."""
        rows = [row for block in self.blocks for row in block]
        widths = [max(map(len, column)) for column in zip(self.heads, *rows, strict=True)]

        def line(cells: Sequence[str]) -> str:
            aligned = [
                cell.ljust(width) if column < self.num_text_columns else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            return "  ".join(aligned).rstrip()

        blocks = ("\n".join(map(line, block)) for block in self.blocks)
        return "\n".join((line(self.heads), "\n\n".join(blocks)))


def for_terminal(subjects: Sequence[SubjectRows], measure: Measure, subject_word: str) -> str:
    """Return one block for each subject: models, means over seeds, rivals; ASCII."""
    names = (subject_word, "forecaster", "seed", "step", "validation", "test", "difference (95 %)")
    blocks = tuple(tuple(_block(subject, measure)) for subject in subjects)
    about = (
        f"{measure.head}; difference in {MEASURES[measure.claim]}, from the hardest rival (below 0: better)"
    )
    return plain(f"{about}\n{TextTable(names, blocks, num_text_columns=2).text()}")


def _block(subject: SubjectRows, measure: Measure) -> Iterator[tuple[str, ...]]:
    for group in subject.groups:
        for row in group.rows:
            difference = _difference_cell(row)
            ends = f" ({difference.aside})" if difference.aside else ""
            text = "" if row.is_sealed else f"{difference.text}{ends}"
            yield (subject.subject, row.run.label, *_model_figures(row), text)
        if group.has_spread:
            yield (subject.subject, *_seed_figures(group, measure), "")
    for rival in subject.rivals:
        yield (subject.subject, *_rival_figures(rival, measure), "")


def _model_figures(row: ModelRow) -> tuple[str, ...]:
    """Return seed, best step, and the figures on validation and test."""
    seed = ABSENT if row.run.seed is None else str(row.run.seed)
    step = str(row.run.judged.evaluated.best_step)
    return (seed, step, *(number(value, row.measure.digits) for value in (row.validation, row.test)))


def _seed_figures(group: SeedGroup, measure: Measure) -> tuple[str, ...]:
    """Return what a row is called, no seed, no step, and means with standard deviations on both splits."""

    def cell(spread: Spread | None) -> str:
        if spread is None:
            return ABSENT
        return f"{signed(spread.mean, measure.digits)} ({signed(spread.deviation, measure.digits)})"

    return (f"mean (sd) of {len(group.rows)} seeds", "", "", cell(group.validation), cell(group.test))


def _rival_figures(rival: RivalRow, measure: Measure) -> tuple[str, ...]:
    """Return a rival's name, no seed, no step, and its figures on both splits."""
    values = (number(value, measure.digits) for value in (rival.validation, rival.test))
    return (rival.label, "", "", *values)


def _difference_cell(row: ModelRow) -> Cell:
    """Return the difference from the hardest rival with its interval, on the split that judges the run."""
    if row.compared is None:
        return Cell(ABSENT)
    digits = row.measure.claim_digits
    return Cell(with_sign(row.compared.mean_difference, digits), interval(row.compared.difference, digits))


def section(
    subjects: Sequence[SubjectRows],
    measure: Measure,
    subject_word: str,
    folder: Path,
    correction: Correction,
) -> Section:
    """Return the comparison for the page; a model's name leads to its report, relative to ``folder``."""
    columns = heads(
        *(subject_word, "forecaster", "seed", "best step"),
        *(f"{measure.head}, validation", f"{measure.head}, test"),
        *("difference", "hardest rival", "verdict", "p", "corrected p"),
        text_columns=(subject_word, "forecaster", "hardest rival", "verdict"),
    )
    rows = [row for subject in subjects for row in _page_rows(subject, measure, folder)]
    return Section(
        "Models and rivals",
        " ".join(_about_comparison(subjects, measure, subject_word, correction)),
        tables=(Table(columns, tuple(rows), has_long_text=True),),
    )


def _about_comparison(
    subjects: Sequence[SubjectRows], measure: Measure, subject_word: str, correction: Correction
) -> Iterator[str]:
    models = [row for subject in subjects for row in subject.models]
    yield f"Rows of one {subject_word} are all scored on the same bars."
    yield f"Difference: from the hardest rival in {MEASURES[measure.claim]}; negative is better."
    yield ABOUT_CLAIMS
    if not all(row.is_sealed for row in models):
        replaced = correction.num_replaced
        older = f", {replaced} of them by runs that newer ones replaced" if replaced else ""
        counted = f"all {count(correction.num_looks, 'look')} at these bars{older}"
        yield f"P: of being better than every rival; corrected: by Holm for {counted}."
    if any(row.is_sealed for row in models):
        yield "A run whose test is sealed shows its difference on validation, and claims nothing."
    yield "A model's name leads to its report."


def _page_rows(subject: SubjectRows, measure: Measure, folder: Path) -> Iterator[TableRow]:
    name = subject.subject
    for group in subject.groups:
        for row in group.rows:
            yield _model_row(name, row, folder)
            name = ""
        if group.has_spread:
            yield table_row(["", *_seed_figures(group, measure), *[""] * 5])
    for rival in subject.rivals:
        yield table_row(["", *_rival_figures(rival, measure), *[""] * 5])


def _model_row(subject: str, row: ModelRow, folder: Path) -> TableRow:
    pooled = row.run.judged.pooled
    return table_row(
        [
            subject,
            Cell(pooled.model.label, " ".join(row.run.settings), report_link(row.run, folder)),
            *_model_figures(row),
            _difference_cell(row),
            pooled.rival(row.compared.hardest).label if row.compared else ABSENT,
            ABSENT if row.verdict is None else IN_WORDS[row.verdict],
            p_value(row.claim.p_value if row.claim else None),
            p_value(row.corrected_p),
        ],
        is_model=True,
    )


def to_csv(subjects: Sequence[SubjectRows]) -> str:
    """Return a row for each run's forecasters, on each group of bars of each split, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for subject in subjects:
        for row in subject.models:
            for scores in row.run.scored.splits:
                writer.writerows(_csv_rows(row, scores))
    return text.getvalue()


def _csv_rows(row: ModelRow, scores: SplitScores) -> Iterator[tuple[object, ...]]:
    groups = [(group, False) for group in (scores.pooled, *scores.categories)]
    for group, is_unseen in (*groups, *((group, True) for group in scores.unseen)):
        for own in (group.model, *group.rivals):
            is_model = own is group.model
            yield (
                *(row.run.subject, own.name, " ".join(row.run.settings), row.run.seed, row.run.paths.run_id),
                *(scores.split, group.name, is_unseen),
                *(group.num_bars, group.num_dates, group.num_assets, group.first_time, group.last_time),
                scores.evaluated.best_step if is_model else None,
                *_figures(own),
                *(cell for measure in MEASURES for cell in _difference(group, own, measure)),
                row.corrected_p if is_model and group is row.run.judged.pooled else None,
            )


def _figures(own: ForecasterScores) -> tuple[object, ...]:
    coverage = own.coverage or {}
    return (
        *(own.nats, own.crps_bp, own.log_loss, own.mae_bp, own.rmse_bp, own.skill, own.spread_bp),
        own.direction.share if own.direction else None,
        *(coverage.get(band) for band in ("50", "80", "90")),
        own.ic.mean if own.ic else None,
        *((own.rank_ic.mean, own.rank_ic.t) if own.rank_ic else (None, None)),
        *((own.price.mse, own.price.mae, own.price.r_squared) if own.price else (None, None, None)),
    )


def _difference(group: GroupScores, own: ForecasterScores, measure: str) -> tuple[object, ...]:
    """Return the model's difference from a rival in one measure."""
    claim = group.claim(measure)
    if claim is None or own.name not in claim.mean_differences:
        return (None, None, None, None)
    found = claim.differences[own.name]
    ends = (None, None, None) if found is None else (found.low, found.high, found.p_value)
    return (claim.mean_differences[own.name], *ends)
