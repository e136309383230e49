"""The summary as plain columns: at most 100 characters for usual symbols and models without settings."""

from __future__ import annotations

from collections.abc import Sequence

from stockpred.report.format import figure
from stockpred.score.metrics import Estimate, Proportion
from stockpred.tasks.forecast.summary.entries import Entry

HEADS = ("asset", "forecaster", "MSE", "MAE", "R2", "skill, %  (95 %)", "DM p", "direction, %  (95 %)")
_NUM_WORDS = 2
_PLAIN = str.maketrans({"\u2212": "-", "\u2013": "-", "\u00a0": " ", "\u00b2": "2"})


def table(entries: Sequence[Entry]) -> str:
    """Return a row per line, words to the left and numbers to the right, an empty line between assets."""
    rows = [_cells(entry) for entry in entries]
    widths = [max(map(len, column)) for column in zip(HEADS, *rows, strict=True)]
    lines = [_line(HEADS, widths)]
    for before, entry, row in zip((None, *entries), entries, rows, strict=False):
        if before is not None and before.results.symbol != entry.results.symbol:
            lines.append("")
        lines.append(_line(row, widths))
    return "\n".join(lines)


def plain(words: str) -> str:
    """Return a sentence of the page in characters that every terminal has."""
    return words.translate(_PLAIN)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    words = [cell.ljust(width) for cell, width in zip(cells[:_NUM_WORDS], widths, strict=False)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[_NUM_WORDS:], widths[_NUM_WORDS:], strict=True)]
    return "  ".join((*words, *numbers)).rstrip()


def _cells(entry: Entry) -> tuple[str, ...]:
    scores = entry.scores
    versus = scores.versus_persistence
    return (
        entry.results.symbol,
        entry.label,
        plain(figure(scores.mse_price, 5).replace(",", "")),
        plain(figure(scores.mae_price, 5).replace(",", "")),
        "-" if scores.r2_price is None else f"{scores.r2_price:.4f}",
        _skill(scores.skill, scores.skill_interval),
        "-" if versus is None else f"{versus.p_value:.3f}",
        _direction(scores.direction),
    )


def _skill(skill: float | None, interval: Estimate | None) -> str:
    if skill is None:
        return "-"
    if interval is None:
        return f"{100 * skill:z.2f}"
    return f"{100 * skill:z.2f}  ({100 * interval.low:z.2f} to {100 * interval.high:z.2f})"


def _direction(direction: Proportion | None) -> str:
    if direction is None:
        return "-"
    return f"{100 * direction.share:.1f}  ({100 * direction.low:.1f} to {100 * direction.high:.1f})"
