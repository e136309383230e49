"""Figures as people read them: the same everywhere on the page."""

from __future__ import annotations

from stockpred.report.elements import ABSENT, Cell
from stockpred.score.metrics import Estimate, Proportion


def parameters(count: int) -> str:
    """Return a parameter count as people say it: 950, 8.4k, 560k, 4.95M, 88.1M."""
    if count < 1_000_000:
        return f"{count / 1e3:.{int(count < 9_950)}f}k" if count >= 1000 else str(count)
    millions = f"{count / 1e6:.3g}" if count < 1e8 else f"{count / 1e6:,.0f}"
    return f"{millions}M"


def interval(estimate: Estimate, digits: int = 3, *, flipped: bool = False) -> str:
    """Return ``0.270 to 0.310``; flipped for a gain, which is the negative of a difference."""
    low, high = (-estimate.high, -estimate.low) if flipped else (estimate.low, estimate.high)
    return f"{signed(low, digits)} to {signed(high, digits)}"


def signed(value: float, digits: int) -> str:
    """Return a number with a true minus sign and no negative zero."""
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0.0:
        text = text.lstrip("-")
    return text.replace("-", "\u2212")


def plus(value: float, digits: int) -> str:
    """Return a number with its sign, whichever it is."""
    told = signed(value, digits)
    return f"+{told}" if value > 0.0 and float(told.replace(",", "")) != 0.0 else told


def number(value: float | None, digits: int) -> str:
    return ABSENT if value is None else signed(value, digits)


def figure(value: float | None, digits: int = 4) -> str:
    """Return a number of any size with so many digits that count: 5.723, 45.69, 1,202."""
    if value is None:
        return ABSENT
    size = len(str(int(abs(value)))) if abs(value) >= 1.0 else 1
    return signed(value, max(digits - size, 0))


def percent(share: float | None) -> str:
    return ABSENT if share is None else f"{100 * share:.1f}"


def p_value(estimate: Estimate | None) -> str:
    return ABSENT if estimate is None else chance(estimate.p_value)


def chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def direction(proportion: Proportion | None) -> str | Cell:
    """Return a share of right signs in percent with its interval."""
    if proportion is None:
        return ABSENT
    return Cell(f"{100 * proportion.share:.1f}", f"{100 * proportion.low:.1f} to {100 * proportion.high:.1f}")


def sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")
