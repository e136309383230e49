"""Tiles and sections of a next-token summary's page."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from stockpred.report.elements import ABSENT, Cell, Picture, Section, Table, TableRow, Tile, heads, table_row
from stockpred.report.format import interval, number, p_value, percent, signed, with_sign
from stockpred.report.summary.correction import counted_tests
from stockpred.report.summary.gather import Gathered
from stockpred.report.summary.page import report_link
from stockpred.tasks.next_token import figures
from stockpred.tasks.next_token.results import NextTokenResults, TokenScores
from stockpred.tasks.next_token.summary.rows import (
    BETTER,
    TOKEN_RIVALS,
    WORSE,
    CaseRows,
    ModelRow,
    SeedMean,
    compared,
    difference_from,
    gain_over,
)


def tiles(cases: Sequence[CaseRows]) -> Iterator[Tile]:
    """Yield the key figures: claims that hold, the median gain, the smallest p value, spread over seeds."""
    models = [row for case in cases for row in case.models]
    num_better, num_worse = (sum(row.claim == claim for row in models) for claim in (BETTER, WORSE))
    undecided = len(models) - num_better - num_worse
    yield Tile(
        "Models better than unigram and bigram",
        f"{num_better} of {len(models)}",
        f"{undecided} not told from zero, {num_worse} worse",
    )
    gains = [row.gain for row in models]
    span = f"from {signed(min(gains), 4)} to {signed(max(gains), 4)}"
    yield Tile("Median gain", f"{with_sign(statistics.median(gains), 4)} nats", span)
    tested = [(row.corrected_p, row.name) for row in models if row.corrected_p is not None]
    if tested:
        least, name = min(tested, key=lambda one: one[0])
        yield Tile("Smallest p, corrected", p_value(least), name)
    widest = max((mean for case in cases for mean in case.seed_means), key=_deviation, default=None)
    if widest:
        context = f"standard deviation of {widest.label} over {len(widest.rows)} seeds"
        yield Tile("Spread over seeds", f"{signed(_deviation(widest), 4)} nats", context)


def sections(
    gathered: Gathered[NextTokenResults], cases: Sequence[CaseRows], folder: Path
) -> tuple[Section, ...]:
    """Return the comparison and the picture; links to reports are relative to ``folder``."""
    return (_comparison(gathered, cases, folder), *(_picture(case) for case in cases))


def _deviation(mean: SeedMean) -> float:
    return mean.nats[1]


def _comparison(gathered: Gathered[NextTokenResults], cases: Sequence[CaseRows], folder: Path) -> Section:
    columns = heads(
        "case", "forecaster", "seed", "best step", "nats / bar", "gain over unigram", "gain over bigram",
        "corrected p", "CRPS, bp", "skill, %", "in 90 %", text_columns=("case", "forecaster"),
    )  # fmt: skip
    rows = [row for case in cases for row in _rows(case, folder)]
    return Section(
        "Models and rivals",
        "A case's rows are all scored on the same bars. Nats: cross-entropy of the next token. Gain: nats "
        "per bar below the rival, with its 95 % interval by Newey-West errors, which take days whole because "
        "assets move together. Corrected p: the p value of the gain over the better rival after Holm's "
        f"correction for {counted_tests(gathered, compared(gathered))}. Skill: share of the last value's "
        "squared error that is saved. In 90 %: outcomes inside the central 90 % interval. A model's name "
        "leads to its report.",
        tables=(Table(columns, tuple(rows), has_long_text=True),),
    )


def _rows(case: CaseRows, folder: Path) -> Iterator[TableRow]:
    means = {mean.rows[-1]: mean for mean in case.seed_means}
    for index, row in enumerate(case.models):
        yield _model_row(case.case if index == 0 else "", row, folder)
        if row in means:
            yield _mean_row(means[row])
    yield from map(_rival_row, case.rivals)


def _model_row(case: str, row: ModelRow, folder: Path) -> TableRow:
    results = row.results
    return table_row(
        [
            case,
            Cell(results.model.label, " ".join(row.settings), report_link(row.run, folder)),
            ABSENT if row.seed is None else str(row.seed),
            f"{results.evaluated.best_step:,}",
            number(row.nats, 4),
            *(_gain_cell(results, rival) for rival in TOKEN_RIVALS),
            p_value(row.corrected_p),
            *_other_cells(results.model),
        ],
        is_model=True,
    )


def _gain_cell(results: NextTokenResults, rival: str) -> Cell:
    difference = difference_from(results, rival)
    return Cell(with_sign(gain_over(results, rival), 4), interval(difference, 4, negated=True))


def _mean_row(mean: SeedMean) -> TableRow:
    nats, deviation = mean.nats
    gains = (
        Cell(with_sign(gain, 4), f"sd {signed(spread, 4)}")
        for gain, spread in map(mean.gain_over, TOKEN_RIVALS)
    )
    label = f"{mean.label}: mean of {len(mean.rows)} seeds"
    nats_cell = Cell(number(nats, 4), f"sd {signed(deviation, 4)}")
    return table_row(["", label, "", "", nats_cell, *gains, "", "", "", ""])


def _rival_row(rival: TokenScores) -> TableRow:
    return table_row(["", rival.label, "", "", number(rival.nats, 4), "", "", "", *_other_cells(rival)])


def _other_cells(scores: TokenScores) -> tuple[str, ...]:
    coverage = (scores.coverage or {}).get("90")
    return (number(scores.crps_bp, 1), percent(scores.skill, 2), percent(coverage))


def _picture(case: CaseRows) -> Section:
    names = [row.name.removeprefix(f"{case.case} ") for row in case.models]
    gains = [(row.gain, row.results.nats_difference) for row in case.models]
    caption = "Dots: nats per bar below the better of unigram and bigram. Lines: 95 % intervals."
    svg = figures.gains_by_run(f"gains-{case.case.encode().hex()}", names, gains)
    return Section("Gain over the better of unigram and bigram", pictures=(Picture(case.case, caption, svg),))
