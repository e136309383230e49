"""The tables of a summary: for the terminal, for the page, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stockpred.report.elements import ABSENT, Cell, Section, Table, TableRow, heads, table_row
from stockpred.report.format import interval, number, p_value, plain, signed, with_sign
from stockpred.report.scores import ABOUT_CLAIMS, IN_WORDS, MEASURES
from stockpred.report.summary.headline import difference_text
from stockpred.report.summary.page import report_link
from stockpred.report.summary.rows import Measure, ModelRow, SeedMean, SubjectRows
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


def for_terminal(subjects: Sequence[SubjectRows], measure: Measure, subject_word: str) -> TextTable:
    """Return one block for each subject: models, means over seeds, rivals."""
    names = (
        *(subject_word, "forecaster", "seed", "step"),
        *(f"{measure.head}, validation", f"{measure.head}, test", "against the hardest rival (95 %)"),
    )
    blocks = tuple(tuple(tuple(map(plain, row)) for row in _block(subject)) for subject in subjects)
    return TextTable(names, blocks, num_text_columns=2)


def _block(subject: SubjectRows) -> Iterator[tuple[str, ...]]:
    means = {mean.rows[-1]: mean for mean in subject.seed_means}
    for row in subject.models:
        values = (_value(row.value(scores), row.measure) for scores in _splits(row))
        seed = ABSENT if row.seed is None else str(row.seed)
        step = str(row.run.judged.evaluated.best_step)
        yield (subject.subject, row.label, seed, step, *values, difference_text(row))
        if row in means:
            yield _mean_cells(subject.subject, means[row])
    measure = subject.models[0].measure
    for rival in subject.rivals(measure):
        validation, test = _rival_values(subject, rival, measure)
        yield (subject.subject, rival.label, ABSENT, ABSENT, validation, test, "")


def _splits(row: ModelRow) -> tuple[SplitScores | None, SplitScores | None]:
    return row.run.scored.validation, row.run.scored.test


def _value(value: float | None, measure: Measure) -> str:
    return number(value, measure.digits)


def _rival_values(subject: SubjectRows, rival: ForecasterScores, measure: Measure) -> tuple[str, str]:
    """Return a rival's figures on validation and on the test."""
    earlier = subject.on_validation(rival.name)
    validation = None if earlier is None else measure.value(earlier)
    test = None if subject.newest.scored.is_sealed else measure.value(rival)
    return _value(validation, measure), _value(test, measure)


def _mean_cells(subject: str, mean: SeedMean) -> tuple[str, ...]:
    digits = mean.rows[0].measure.digits
    found = (
        mean.value(lambda row: row.value(row.run.scored.validation)),
        mean.value(lambda row: row.value(row.run.scored.test)),
    )
    cells = (
        ABSENT if one is None else f"{signed(one[0], digits)} (sd {signed(one[1], digits)})" for one in found
    )
    return (subject, f"mean of {len(mean.rows)} seeds", "", "", *cells, "")


def section(
    subjects: Sequence[SubjectRows], measure: Measure, subject_word: str, folder: Path, counted: str
) -> Section:
    """Return the comparison for the page; a model's name leads to its report, relative to ``folder``."""
    columns = heads(
        *(subject_word, "forecaster", "seed", "best step"),
        *(
            f"{measure.head}, validation",
            f"{measure.head}, test",
            "against the hardest rival",
            "verdict",
            "p",
        ),
        "corrected p",
        text_columns=(subject_word, "forecaster", "verdict"),
    )
    rows = [row for subject in subjects for row in _page_rows(subject, folder)]
    return Section(
        "Models and rivals",
        f"A subject's rows are all scored on the same bars. {ABOUT_CLAIMS} Corrected p: after Holm's "
        f"correction for {counted}. A model's name leads to its report.",
        tables=(Table(columns, tuple(rows), has_long_text=True),),
    )


def _page_rows(subject: SubjectRows, folder: Path) -> Iterator[TableRow]:
    means = {mean.rows[-1]: mean for mean in subject.seed_means}
    for index, row in enumerate(subject.models):
        yield _model_row(subject.subject if index == 0 else "", row, folder)
        if row in means:
            yield table_row([*_mean_cells("", means[row]), "", "", ""])
    measure = subject.models[0].measure
    for rival in subject.rivals(measure):
        yield table_row(["", rival.label, "", "", *_rival_values(subject, rival, measure), "", "", "", ""])


def _model_row(subject: str, row: ModelRow, folder: Path) -> TableRow:
    judged, claim = row.run.judged, row.claim
    return table_row(
        [
            subject,
            Cell(judged.pooled.model.label, " ".join(row.settings), report_link(row.run, folder)),
            ABSENT if row.seed is None else str(row.seed),
            f"{judged.evaluated.best_step:,}",
            *(_value(row.value(scores), row.measure) for scores in _splits(row)),
            Cell(ABSENT)
            if claim is None
            else Cell(with_sign(claim.mean_difference, 4), interval(claim.difference, 4)),
            IN_WORDS[row.verdict],
            p_value(None if claim is None else claim.p_value),
            p_value(row.corrected_p),
        ],
        is_model=True,
    )


def to_csv(subjects: Sequence[SubjectRows]) -> str:
    """Return a row for each forecaster, group of bars and split, in full precision."""
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
                *(row.run.subject, own.name, " ".join(row.settings), row.seed, row.run.paths.run_id),
                *(scores.split, group.name, is_unseen),
                *(group.num_bars, group.num_dates, group.num_assets, group.first_time, group.last_time),
                scores.evaluated.best_step if is_model else None,
                *_figures(own),
                *(cell for measure in MEASURES for cell in _difference(group, own, measure)),
                row.corrected_p if is_model and scores is row.run.judged else None,
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
