"""A run's log across attempts: its last lines, and what is added from then on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.monitor.status import RunState, RunView, Watcher
from hpc.run.find import open_run
from hpc.run.paths import RunPaths

TICK_S = 0.5
CHUNK = 65536


@dataclass(frozen=True)
class LogLine:
    """One line of a run's log."""

    run: str
    text: str


@dataclass(frozen=True)
class Change:
    """A run whose state or attempt changed."""

    view: RunView


class Tail:
    """Reads what is added to a file that may not exist yet; a line comes out when it is complete."""

    def __init__(self, path: Path, begin: int = 0) -> None:
        self.path = path
        self._position = begin
        self._rest = b""

    def new_lines(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._position)
                added = file.read()
        except FileNotFoundError:
            return []
        self._position += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


def last_lines(path: Path, number: int) -> tuple[list[str], int]:
    """Return the last whole lines of a log and where they end, in bytes; reads only the end of the file."""
    try:
        with path.open("rb") as file:
            end = start = file.seek(0, 2)
            content = b""
            while start > 0 and content.count(b"\n") <= number + 1:
                start = max(0, start - CHUNK)
                file.seek(start)
                content = file.read(end - start)
    except FileNotFoundError:
        return [], 0
    whole, _, begun = content.rpartition(b"\n")
    lines = whole.decode(errors="replace").split("\n") if whole else []
    return (lines[-number:] if number else []), end - len(begun)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def follow(
    paths: Sequence[RunPaths],
    *,
    log: str,
    begins: Sequence[int] | None,
    lifts_holds: bool = True,
    on_tick: Callable[[list[RunView]], None] = lambda _: None,
) -> Iterator[LogLine | Change]:
    """Yield the log's new lines and each change of state of runs, until all of them are over.

    ``begins`` tells for each run how many bytes of its log are known, by default all that are there now.
    """
    files = [path.logs / log for path in paths]
    known = [size_of(file) for file in files] if begins is None else begins
    tails = [Tail(file, begin) for file, begin in zip(files, known, strict=True)]
    watcher = Watcher(lifts_holds=lifts_holds)
    shown: dict[str, tuple[RunState, int]] = {}
    while True:
        views = watcher.look([open_run(path) for path in paths])
        for path, tail in zip(paths, tails, strict=True):
            for text in tail.new_lines():
                yield LogLine(f"{path.case}/{path.run_id}", text)
        for view in views:
            if shown.get(view.run) != (view.state, view.attempt):
                shown[view.run] = (view.state, view.attempt)
                yield Change(view)
        on_tick(views)
        if all(view.state.is_over for view in views):
            return
        time.sleep(TICK_S)
