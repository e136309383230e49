"""The only place of the launcher that prints: tables for people, plain lines for pipes, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from hpc.base.text import duration

if TYPE_CHECKING:
    from rich.console import Console, Group

    from hpc.monitor.status import RunView

COLOURS = {
    "running": "green",
    "finished": "bold green",
    "failed": "bold red",
    "lost": "bold red",
    "cancelled": "yellow",
    "waiting": "cyan",
    "between attempts": "cyan",
    "starting": "cyan",
}


def result(text: str) -> None:
    """Print what was asked for, and nothing else, to standard output."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    sys.stdout.flush()


def talk(text: str) -> None:
    """Print what a person wants to know meanwhile, to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def show_views(views: Sequence[RunView], *, as_json: bool = False, plain: bool = False) -> None:
    """Print runs as JSON, as tab-separated lines when nobody looks, else as a table."""
    if as_json:
        result(json.dumps([asdict(view) for view in views], indent=2))
    elif plain or not sys.stdout.isatty():
        result("\n".join(plain_line(view) for view in views) if views else "no runs")
    else:
        console().print(views_table(views))


def plain_line(view: RunView) -> str:
    """Return one run as one tab-separated line."""
    cells = (view.run, view.state.value, f"attempt {view.attempt}", progress(view), _loss(view), _eta(view))
    remedy = f" ({view.remedy})" if view.remedy else ""
    sentence = " ".join(f"{view.sentence}{remedy}".split())
    return "\t".join((*cells, f"job {view.job_id or '-'}", sentence))


def views_table(views: Sequence[RunView]) -> Group:
    """Return the runs as a table for a terminal, and below it a note on those that need one."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "state", "attempt", "step", "loss", "best", "left", "job"):
        is_number = name in ("attempt", "loss", "best", "left")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for view in views:
        colour = COLOURS[view.state.value]
        table.add_row(
            view.run,
            f"[{colour}]{view.state.value}[/{colour}]",
            str(view.attempt or "-"),
            progress(view),
            _loss(view),
            _number(view.best),
            _eta(view),
            view.job_id or "-",
        )
    return Group(table, *(f"  [dim]{escape(note)}[/dim]" for note in map(_note, views) if note))


def _note(view: RunView) -> str | None:
    if view.remedy is None and view.state.value in ("running", "finished"):
        return None
    return " ".join((f"{view.run}: {view.sentence}" + (f" ({view.remedy})" if view.remedy else "")).split())


def progress(view: RunView) -> str:
    """Return ``1200/8000 15%``, a dash before the first step; patience may end a run before its last step."""
    if view.step is None or not view.total_steps:
        return "-"
    share = "" if view.state.is_over else f" {100 * view.step // view.total_steps}%"
    return f"{view.step}/{view.total_steps}{share}"


def lines(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as left-aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _eta(view: RunView) -> str:
    return duration(view.eta_s) if view.eta_s is not None else "-"


def _loss(view: RunView) -> str:
    return _number(view.loss)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def watch(look: Callable[[], Sequence[RunView]], *, every_s: float, once: bool) -> None:
    """Show the runs again and again until Ctrl-C; without a terminal, one line per run and change."""
    if once or not sys.stdout.isatty():
        _watch_plainly(look, every_s, once)
        return
    from rich.live import Live

    try:
        with Live(console=console(), auto_refresh=False, screen=False) as live:
            while True:
                live.update(views_table(look()), refresh=True)
                time.sleep(every_s)
    except KeyboardInterrupt:
        return


def _watch_plainly(look: Callable[[], Sequence[RunView]], every_s: float, once: bool) -> None:
    shown: dict[str, str] = {}
    while True:
        views = look()
        for view in views:
            line = plain_line(view)
            if shown.get(view.run) != line:
                shown[view.run] = line
                result(line)
        if once or all(view.state.is_over for view in views):
            return
        time.sleep(every_s)
