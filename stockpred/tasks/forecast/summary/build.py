"""Put runs of task forecast side by side: a table for the terminal, a CSV and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.base import records
from hpc.base.errors import ExitCode
from stockpred.tasks.forecast.summary import entries, terminal, web, words
from stockpred.tasks.forecast.summary.gather import gather


@dataclass(frozen=True)
class Summary:
    """What is to be printed, and how the command ends."""

    text: str
    exit_code: ExitCode


def summarise(run_dirs: Sequence[Path], prefix: Path) -> Summary:
    """Write ``PREFIX.csv`` and ``PREFIX.html``, unless no run has results.

    Raises UserError for runs of another task and for a file that cannot be written.
    """
    gathered = gather(run_dirs)
    if not gathered.assets:
        return Summary("\n".join((*gathered.notes, "there is nothing to summarise")), ExitCode.FAILED)
    rows = entries.of(gathered.assets)
    csv, html = (prefix.with_name(f"{prefix.name}.{ending}") for ending in ("csv", "html"))
    _write(csv, entries.to_csv(rows))
    _write(html, web.render(gathered, rows, html.resolve().parent))
    synthetic = [run.results.symbol for asset in gathered.assets for run in asset.runs if run.is_synthetic]
    alarm = f"synthetic bars: {', '.join(dict.fromkeys(synthetic))}" if synthetic else None
    told = terminal.plain(words.verdict(gathered, rows).headline)
    cautions = [terminal.plain(caution) for caution in words.cautions(rows)]
    parts = (alarm, *gathered.notes, told, *cautions, "", terminal.table(rows), "", str(csv), str(html))
    return Summary("\n".join(part for part in parts if part is not None), ExitCode.OK)


def _write(path: Path, content: str) -> None:
    fix = "make room or give permission there, or choose another place with --out"
    with records.writing(path, fix=fix, exit_code=ExitCode.FAILED):
        records.write_text(path, content)
