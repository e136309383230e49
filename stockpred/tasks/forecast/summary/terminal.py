"""The table of a forecast summary for the terminal: at most 100 characters for models without settings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from stockpred.report.format import number, percent, percent_interval, plain, significant
from stockpred.report.summary.task_part import TextTable
from stockpred.score.inference import Estimate, Proportion
from stockpred.tasks.forecast.summary.entries import Entry

_HEADS = ("asset", "forecaster", "MSE", "MAE", "R2", "skill, %  (95 %)", "DM p", "direction, %  (95 %)")


def table(entries: Sequence[Entry]) -> TextTable:
    """Return one block for each asset."""
    blocks = groupby(entries, key=lambda entry: entry.results.symbol)
    return TextTable(_HEADS, tuple(tuple(map(_cells, block)) for _, block in blocks), num_text_columns=2)


def _cells(entry: Entry) -> tuple[str, ...]:
    scores = entry.scores
    versus = scores.versus_persistence
    numbers = (
        significant(scores.mse_price, 5).replace(",", ""),
        significant(scores.mae_price, 5).replace(",", ""),
        number(scores.r2_price, 4),
        _with_interval(scores.skill, scores.skill_interval, 2),
        number(versus.p_value if versus else None, 3),
        _with_interval(scores.direction.share if scores.direction else None, scores.direction, 1),
    )
    return (entry.results.symbol, entry.label, *map(plain, numbers))


def _with_interval(share: float | None, interval: Estimate | Proportion | None, digits: int) -> str:
    """Return a share in percent, its interval in brackets."""
    ends = percent_interval(interval, digits)
    return f"{percent(share, digits)}  ({ends})" if ends else percent(share, digits)
