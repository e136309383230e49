"""Put runs of one task side by side: a table for the terminal, a CSV file and a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.base import records
from hpc.base.errors import ExitCode
from stockpred.report.format import plain
from stockpred.report.summary import gather, page, task_part
from stockpred.report.summary.gather import Gathered
from stockpred.report.summary.task_part import CsvTable, TaskSummary, TextTable


@dataclass(frozen=True)
class Summary:
    """What the command prints, and how it ends."""

    text: str
    exit_code: ExitCode


def summarise(run_dirs: Sequence[Path], prefix: Path) -> Summary:
    """Write ``PREFIX.csv`` and ``PREFIX.html``, unless no run has results.

    Raises UserError for runs of different tasks and for a file that cannot be written.
    """
    files = gather.read(run_dirs)
    task = gather.only_task(files)
    if task is None:
        return _nothing(Gathered((), gather.without_task(files), (), ()).notes)
    part = task_part.of(task)
    gathered = gather.gather(files, part.reader)
    if not gathered.subjects:
        return _nothing(gathered.notes)
    csv_path, html_path = (prefix.with_name(f"{prefix.name}.{ending}") for ending in ("csv", "html"))
    folder = html_path.resolve().parent
    summary = part.summarise(gathered, folder)
    _write(csv_path, _to_csv(summary.csv))
    _write(html_path, page.render(gathered, summary))
    return Summary(_text(gathered, summary, (csv_path, html_path)), ExitCode.OK)


def _nothing(notes: Sequence[str]) -> Summary:
    return Summary("\n".join((*notes, "there is nothing to summarise")), ExitCode.FAILED)


def _text(gathered: Gathered[Any], summary: TaskSummary, written: Sequence[Path]) -> str:
    synthetic = dict.fromkeys(run.subject for run in gathered.runs if run.is_synthetic)
    alarm = [f"synthetic bars: {', '.join(synthetic)}"] if synthetic else []
    claims = (plain(summary.headline.text), *map(plain, summary.cautions))
    parts = (*alarm, *gathered.notes, *claims, "", _columns(summary.table), "", *map(str, written))
    return "\n".join(parts)


def _columns(table: TextTable) -> str:
    """Return the table with text aligned left, numbers right, and an empty line between blocks."""
    rows = [row for block in table.blocks for row in block]
    widths = [max(map(len, column)) for column in zip(table.heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if column < table.num_text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(aligned).rstrip()

    blocks = ("\n".join(map(line, block)) for block in table.blocks)
    return "\n".join((line(table.heads), "\n\n".join(blocks)))


def _to_csv(table: CsvTable) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()


def _write(path: Path, content: str) -> None:
    fix = "make room or give permission there, or choose another place with --out"
    with records.writing(path, fix=fix, exit_code=ExitCode.FAILED):
        records.write_text(path, content)
