"""A run's log across attempts: its last lines, and what is added from then on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.monitor import RunState, RunView, Watcher
from hpc.paths import RunPaths
from hpc.runs import open_run

TICK_S = 0.5
CHUNK = 65536


@dataclass(frozen=True)
class Line:
    """One line of a run's log."""

    run: str
    text: str


@dataclass(frozen=True)
class Change:
    """A run whose state or attempt changed."""

    view: RunView


class Tail:
    """Reads what is added to a file that may not exist yet; a line comes out when it is complete."""

    def __init__(self, path: Path, *, from_start: bool) -> None:
        self.path = path
        self._position = 0 if from_start or not path.exists() else path.stat().st_size
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


def last_lines(path: Path, number: int) -> list[str]:
    """Return the last lines of a log, reading only its end; none where there is no log yet."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            content = b""
            while end > 0 and content.count(b"\n") <= number:
                start = max(0, end - CHUNK)
                file.seek(start)
                content = file.read(end - start) + content
                end = start
    except FileNotFoundError:
        return []
    return [line.decode(errors="replace") for line in content.splitlines()[-number:]] if number else []


def follow(
    run_dirs: Sequence[Path],
    *,
    rank: int = 0,
    lifts_holds: bool = True,
    on_tick: Callable[[list[RunView]], None] = lambda _: None,
) -> Iterator[Line | Change]:
    """Yield the log's new lines and each change of state of runs, until all of them are over."""
    paths = [RunPaths(directory) for directory in run_dirs]
    tails = [Tail(path.rank_log(rank), from_start=False) for path in paths]
    watcher = Watcher(lifts_holds=lifts_holds)
    shown: dict[str, tuple[RunState, int]] = {}
    while True:
        views = watcher.look([open_run(path) for path in paths])
        for path, tail in zip(paths, tails, strict=True):
            for text in tail.new_lines():
                yield Line(f"{path.case}/{path.run_id}", text)
        for view in views:
            if shown.get(view.run) != (view.state, view.attempt):
                shown[view.run] = (view.state, view.attempt)
                yield Change(view)
        on_tick(views)
        if all(view.state.is_over for view in views):
            return
        time.sleep(TICK_S)
