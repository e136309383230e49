"""Number formats of reports, summaries and log lines; numbers carry a true minus sign and no negative zero.

What is absent (None) becomes a dash. ``plain`` turns any of these texts into ASCII for a terminal.
"""

from __future__ import annotations

import math

from stockpred.report.elements import ABSENT, Cell
from stockpred.score.inference import Estimate, Proportion

_TO_ASCII = str.maketrans({"\u2212": "-", "\u2013": "-", "\u00a0": " ", "\u00b2": "2"})


def signed(value: float, digits: int) -> str:
    """Return a number with so many decimals, such as ``\u22121,234.5``."""
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0.0:
        text = text.lstrip("-")
    return text.replace("-", "\u2212")


def with_sign(value: float, digits: int) -> str:
    """Return a number with its sign, also where it is positive; zero has none."""
    text = signed(value, digits)
    return f"+{text}" if value > 0.0 and float(text.replace(",", "")) != 0.0 else text


def number(value: float | None, digits: int) -> str:
    return ABSENT if value is None else signed(value, digits)


def significant(value: float | None, digits: int = 4) -> str:
    """Return a number of any size with so many significant digits: 5.723, 45.69, 1,202, 0.0001234.

    Numbers from 0.1 to 1 have one less, so that they align with those from 1 to 10.
    """
    if value is None:
        return ABSENT
    magnitude = math.floor(math.log10(abs(value))) if math.isfinite(value) and value else 0
    return signed(value, max(digits - 1 - (0 if magnitude == -1 else magnitude), 0))


def whole(value: object) -> str:
    """Return an integer with thousands separated; a dash for whatever is none."""
    return f"{value:,}" if isinstance(value, int) else ABSENT


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage, without the percent sign."""
    return ABSENT if share is None else signed(100 * share, digits)


def interval(estimate: Estimate | None, digits: int = 3, *, negated: bool = False) -> str:
    """Return ``0.270 to 0.310``, nothing for no interval.

    ``negated`` is for a gain, which is the negative of a difference.
    """
    if estimate is None:
        return ""
    low, high = (-estimate.high, -estimate.low) if negated else (estimate.low, estimate.high)
    return f"{signed(low, digits)} to {signed(high, digits)}"


def percent_interval(estimate: Estimate | Proportion | None, digits: int = 2) -> str:
    """Return both ends of an interval as percentages, without the percent sign; nothing for no interval."""
    if estimate is None or estimate.low is None:
        return ""
    return f"{percent(estimate.low, digits)} to {percent(estimate.high, digits)}"


def p_value(found: Estimate | float | None) -> str:
    """Return a p value, or that of an estimate."""
    if found is None:
        return ABSENT
    p = found.p_value if isinstance(found, Estimate) else found
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def share_cell(proportion: Proportion | None) -> str | Cell:
    """Return a share in percent with its interval."""
    if proportion is None:
        return ABSENT
    return Cell(percent(proportion.share), percent_interval(proportion, 1))


def parameter_count(count: int) -> str:
    """Return a model's size: 950, 8.4k, 560k, 4.95M, 88.1M."""
    if count < 1_000_000:
        return f"{count / 1e3:.{int(count < 9_950)}f}k" if count >= 1000 else str(count)
    millions = f"{count / 1e6:.3g}" if count < 1e8 else f"{count / 1e6:,.0f}"
    return f"{millions}M"


def sentence(text: str) -> str:
    """Return the text with a capital letter in front and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def plain(text: str) -> str:
    """Return the text in ASCII, which every terminal and log file can show."""
    return text.translate(_TO_ASCII)
