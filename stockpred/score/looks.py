"""The ledger of looks at test bars: every scoring of a test is counted, whoever made it and however it ended.

A second look at the same bars makes it likelier that one looks good by luck, so corrections need the number
of all looks at bars that overlap in assets and dates: also by runs that are gone, or on shifted dates. One
line per look is appended to ``test_looks.jsonl`` beside the cases' runs, before its results are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hpc.base import records
from hpc.run.paths import RunPaths


@dataclass(frozen=True)
class Look:
    """One scoring of a test: by which run and weights, of which assets, on which dates (ISO, inclusive)."""

    task: str
    case: str
    run_id: str
    step: int
    symbols: tuple[str, ...]
    first: str
    last: str

    @property
    def of(self) -> tuple[str, str, int]:
        """What was looked at the bars with: the same weights of the same run are one look."""
        return self.case, self.run_id, self.step

    def overlaps(self, other: Look) -> bool:
        """Whether both saw a bar of the same asset on the same dates, in the same task."""
        is_apart = self.last < other.first or other.last < self.first
        return self.task == other.task and not is_apart and not set(self.symbols).isdisjoint(other.symbols)


def record(paths: RunPaths, look: Look) -> int:
    """Append a look, unless it is there; return how many looks overlap with it, itself included.

    Raises UserError where the ledger cannot be written: a look that is not counted must not be made.
    """
    ledger = ledger_of(paths)
    with records.writing(
        ledger,
        what="the look at the test cannot be recorded",
        fix="make room or give permission there; the test stays unopened until then",
    ):
        if look.of not in {known.of for known in read(ledger)}:
            records.append_row(ledger, asdict(look))
    return count(read(ledger), look)


def count(looks: Iterable[Look], look: Look) -> int:
    """Return how many different looks overlap with one of them, itself included."""
    return len({other.of for other in looks if other.overlaps(look)} | {look.of})


def read(ledger: Path) -> list[Look]:
    """Return every look; rows that are torn or of another version are left out."""
    return [look for row in records.read_rows(ledger) if (look := _look(row)) is not None]


def ledger_of(paths: RunPaths) -> Path:
    """Return the ledger that a run's looks are counted in."""
    return paths.root.parent.parent / "test_looks.jsonl"


def _look(row: records.Row) -> Look | None:
    try:
        return Look(**{**row, "symbols": tuple(row["symbols"])})
    except (KeyError, TypeError):
        return None
