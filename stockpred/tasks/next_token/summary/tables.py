"""The tables of a next-token summary: for the terminal and as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stockpred.report.format import interval, number, plain, signed
from stockpred.report.summary.task_part import CsvTable, TextTable
from stockpred.score.inference import Estimate, Proportion
from stockpred.tasks.next_token.results import TokenScores
from stockpred.tasks.next_token.summary.rows import (
    TOKEN_RIVALS,
    CaseRows,
    ModelRow,
    SeedMean,
    difference_from,
    gain_over,
)

_HEADS = (
    *("case", "forecaster", "seed", "step", "nats"),
    *(f"gain, {rival} (95 %)" for rival in TOKEN_RIVALS),
)
_COLUMNS = (
    *("case", "forecaster", "settings", "seed", "run_id", "num_bars", "first_time", "last_time"),
    *("best_step", "nats", "bits"),
    *(f"gain_{rival}{end}" for rival in TOKEN_RIVALS for end in ("", "_low", "_high")),
    *("p_value", "corrected_p", "crps_bp", "skill", "direction", "direction_low", "direction_high"),
    "coverage_90",
)


def for_terminal(cases: Sequence[CaseRows]) -> TextTable:
    """Return one block for each case."""
    blocks = tuple(tuple(tuple(map(plain, row)) for row in _block(case)) for case in cases)
    return TextTable(_HEADS, blocks, num_text_columns=2)


def _block(case: CaseRows) -> Iterator[tuple[str, ...]]:
    means = {mean.rows[-1]: mean for mean in case.seed_means}
    for row in case.models:
        yield _model_cells(case.case, row)
        if row in means:
            yield _mean_cells(case.case, means[row])
    for rival in case.rivals:
        yield (case.case, rival.name, number(None, 0), number(None, 0), number(rival.nats, 4), "", "")


def _model_cells(case: str, row: ModelRow) -> tuple[str, ...]:
    seed = number(None, 0) if row.seed is None else str(row.seed)
    gains = (
        _gain(gain_over(row.results, rival), difference_from(row.results, rival)) for rival in TOKEN_RIVALS
    )
    return (case, row.label, seed, str(row.results.evaluated.best_step), signed(row.nats, 4), *gains)


def _mean_cells(case: str, mean: SeedMean) -> tuple[str, ...]:
    gains = (
        f"{signed(gain, 3)} (sd {signed(deviation, 3)})"
        for gain, deviation in map(mean.gain_over, TOKEN_RIVALS)
    )
    return (case, f"mean of {len(mean.rows)} seeds", "", "", signed(mean.nats[0], 4), *gains)


def _gain(value: float, difference: Estimate | None) -> str:
    ends = f" ({interval(difference, 3, negated=True)})" if difference else ""
    return f"{signed(value, 3)}{ends}"


def to_csv(cases: Sequence[CaseRows]) -> CsvTable:
    """Return a row for each model and rival in full precision."""
    return CsvTable(_COLUMNS, tuple(row for case in cases for row in _csv_rows(case)))


def _csv_rows(case: CaseRows) -> Iterator[tuple[object, ...]]:
    test = case.models[0].results  # of the same bars as all others
    for row in case.models:
        results = row.results
        yield (
            *(case.case, results.model.name, " ".join(row.settings), row.seed, row.run.paths.run_id),
            *(results.num_bars, results.first_time, results.last_time, results.evaluated.best_step),
            *(results.model.nats, results.model.bits),
            *(value for rival in TOKEN_RIVALS for value in _gain_values(row, rival)),
            *(results.nats_difference.p_value if results.nats_difference else None, row.corrected_p),
            *_other_scores(results.model),
        )
    for rival in case.rivals:
        yield (
            *(case.case, rival.name, None, None, None),
            *(test.num_bars, test.first_time, test.last_time, None, rival.nats, rival.bits),
            *[None] * (3 * len(TOKEN_RIVALS) + 2),
            *_other_scores(rival),
        )


def _gain_values(row: ModelRow, rival: str) -> tuple[float | None, ...]:
    difference = difference_from(row.results, rival)
    ends = (-difference.high, -difference.low) if difference else (None, None)
    return (gain_over(row.results, rival), *ends)


def _other_scores(scores: TokenScores) -> tuple[float | None, ...]:
    coverage = scores.coverage or {}
    return (scores.crps_bp, scores.skill, *_share(scores.direction), coverage.get("90"))


def _share(found: Proportion | None) -> tuple[float | None, ...]:
    return (found.share, found.low, found.high) if found else (None, None, None)
