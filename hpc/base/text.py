"""Small things people read: durations, sizes, guesses at what was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return the known word nearest to ``word``, or None when nothing is near."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a remedy for an unknown word: the nearest known one, or all of them."""
    names = sorted(known)
    guess = did_you_mean(word, names)
    if guess:
        return f"did you mean {guess!r}?"
    return f"use one of: {', '.join(names)}" if names else "leave it out: nothing is known here"


def parameters(number: int | None) -> str:
    """Return the size of a model: ``201``, ``10.7k``, ``4.83M``; a dash for an unknown one."""
    if number is None:
        return "-"
    if number < 1000:
        return str(number)
    return f"{number / 1e3:.1f}k" if number < 100_000 else f"{number / 1e6:.2f}M"


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``42s``, ``3m 05s``, ``2h 07m``, ``4d 03h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def count(number: int, noun: str) -> str:
    """Return ``1 job`` or ``3 jobs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_plain_name(text: str) -> bool:
    """Say whether ``text`` may name a case, a preset or a run in a path and in a script."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text) is not None
