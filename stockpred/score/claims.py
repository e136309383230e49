"""What a result says against its rivals: a claim needs to win against every one of its kind.

A difference is the model's loss less a rival's, so negative is better. The model is better only where the
whole interval of every difference lies below zero. Demanding all of them at once keeps the chance of a false
claim at that of a single test (the intersection-union test of Berger 1982), however many rivals there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from stockpred.score.inference import Estimate

_ROUNDING = 1e-9
"""Differences below this, in nats or in basis points, are dust of a model that repeats its rival."""


class Verdict(StrEnum):
    """What a claim comes to."""

    BETTER = "better than every rival"
    WORSE = "worse than a rival"
    UNDECIDED = "not better than every rival"
    TOO_FEW_DATES = "too few dates to tell"


@dataclass(frozen=True)
class Claim:
    """The model against its rivals in one measure; ``differences`` by the rival's name.

    ``hardest`` is the rival whose difference reaches furthest towards it; None as a difference means that
    the dates are too few for an interval.
    """

    measure: str
    hardest: str
    differences: Mapping[str, Estimate | None]
    mean_differences: Mapping[str, float]

    @property
    def difference(self) -> Estimate | None:
        """The difference from the hardest rival."""
        return self.differences[self.hardest]

    @property
    def mean_difference(self) -> float:
        """The mean difference from the hardest rival, also where there is no interval."""
        return self.mean_differences[self.hardest]

    @property
    def verdict(self) -> Verdict:
        known = [one for one in self.differences.values() if one is not None]
        if len(known) < len(self.differences):
            return Verdict.TOO_FEW_DATES
        if all(one.high < -_ROUNDING for one in known):
            return Verdict.BETTER
        if any(one.low > _ROUNDING for one in known):
            return Verdict.WORSE
        return Verdict.UNDECIDED

    @property
    def is_better(self) -> bool:
        return self.verdict is Verdict.BETTER

    @property
    def p_value(self) -> float | None:
        """That of "better than every rival": the largest over the rivals, 1 where one is not beaten."""
        known = [one for one in self.differences.values() if one is not None]
        if len(known) < len(self.differences):
            return None
        return max(one.p_value if one.mean < 0.0 else 1.0 for one in known)


def of(measure: str, differences: Mapping[str, tuple[float, Estimate | None]]) -> Claim:
    """Return the claim about a measure from the mean difference and the estimate against each rival."""

    def reach(name: str) -> float:
        mean, estimate = differences[name]
        return mean if estimate is None else estimate.high

    return Claim(
        measure,
        max(differences, key=reach),
        {name: estimate for name, (_, estimate) in differences.items()},
        {name: mean for name, (mean, _) in differences.items()},
    )
