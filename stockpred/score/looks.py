"""The ledger of looks at test bars: every scoring of a test is counted, whoever made it and however it ended.

A second look at the same bars makes it likelier that one looks good by luck, so corrections need the number
of all looks at bars that overlap in assets and dates: also by runs that are gone, or on shifted dates. One
line per look is appended to ``test_looks.jsonl`` beside the cases' runs, before its results are written.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from hpc.base import records
from hpc.run.paths import RunPaths

_LOCK_S = 120.0
"""How long to wait for others that record their looks; each needs milliseconds."""


@dataclass(frozen=True)
class Look:
    """One scoring of a test: by which run and weights, of which assets, from when to when.

    ``first`` and ``last`` are the times of the first and the last scored bar, ISO in UTC.
    """

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
        """Whether both are of the same task and have an asset and a stretch of time in common."""
        is_apart = self.last < other.first or other.last < self.first
        return self.task == other.task and not is_apart and not set(self.symbols).isdisjoint(other.symbols)


_ADAPTER = TypeAdapter(Look)


def record(paths: RunPaths, look: Look) -> int:
    """Append a look, unless it is there; return how many looks overlap with it, itself included.

    Raises UserError where the ledger cannot be read or written: a look that is not counted must not be made.
    """
    ledger = ledger_of(paths)
    with _held(ledger):
        known = _read(ledger)
        if look not in known:
            records.append_row(ledger, asdict(look))
    return len(Index([*known, look]).overlapping([look]))


class Index:
    """Looks by run and by asset: thousands of runs of one asset each are not compared each with each."""

    def __init__(self, known: Collection[Look]) -> None:
        self._known = tuple(known)
        self._of_run: defaultdict[tuple[str, str], list[Look]] = defaultdict(list)
        self._at_symbol: defaultdict[str, list[int]] = defaultdict(list)
        for place, look in enumerate(self._known):
            self._of_run[look.case, look.run_id].append(look)
            for symbol in look.symbols:
                self._at_symbol[symbol].append(place)

    def of_run(self, case: str, run_id: str) -> Sequence[Look]:
        """Return the looks of one run."""
        return self._of_run.get((case, run_id), ())

    def overlapping(self, seen: Collection[Look]) -> set[tuple[str, str, int]]:
        """Return what the looks were made with (``Look.of``) that overlap with at least one of ``seen``."""
        symbols = {symbol for one in seen for symbol in one.symbols}
        places = {place for symbol in symbols for place in self._at_symbol.get(symbol, ())}
        near = (self._known[place] for place in places)
        return {look.of for look in near if any(look.overlaps(one) for one in seen)}


def read(ledger: Path) -> list[Look]:
    """Return every look; lines that are torn or hold no look are left out.

    Raises UserError where a ledger is there and cannot be read: without it luck passes for skill.
    """
    with records.writing(
        ledger,
        what="the looks at the test cannot be counted",
        fix="give permission to read it, or put its last good copy there",
    ):
        return _read(ledger)


def ledger_of(paths: RunPaths) -> Path:
    """Return the ledger that a run's looks are counted in."""
    return paths.root.absolute().parent.parent / "test_looks.jsonl"


@contextlib.contextmanager
def _held(ledger: Path) -> Iterator[None]:
    """Let one process at a time append: file systems of clusters do not keep two appends apart."""
    with (
        records.writing(
            ledger,
            what="the look at the test cannot be recorded",
            fix="make room or give permission there; the test stays unopened until then",
        ),
        FileLock(ledger.with_name(f".{ledger.name}.lock"), timeout=_LOCK_S),
    ):
        yield


def _read(ledger: Path) -> list[Look]:
    return [look for row in records.read_rows(ledger) if (look := _look(row)) is not None]


def _look(row: records.Row) -> Look | None:
    try:
        return _ADAPTER.validate_python(row)
    except ValidationError:
        return None
