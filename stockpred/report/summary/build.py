"""Put runs of one task side by side: a table for the terminal, a CSV file and a page."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.base import records, text
from hpc.base.errors import ExitCode
from stockpred.report.elements import Tile
from stockpred.report.format import p_value, plain, signed
from stockpred.report.summary import gather, headline, page, rows, tables, task_part
from stockpred.report.summary.correction import num_looks, runs_replaced
from stockpred.report.summary.gather import Gathered
from stockpred.report.summary.rows import Measure, ModelRow, SubjectRows
from stockpred.report.summary.task_part import TaskPart
from stockpred.score.claims import Verdict


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
    return _written(gathered, part, prefix)


def _nothing(notes: Sequence[str]) -> Summary:
    return Summary("\n".join((*notes, "there is nothing to summarise")), ExitCode.FAILED)


def _written(gathered: Gathered, part: TaskPart, prefix: Path) -> Summary:
    subjects = rows.of(gathered, part.measure)
    csv_path, html_path = (prefix.with_name(f"{prefix.name}.{ending}") for ending in ("csv", "html"))
    folder = html_path.resolve().parent
    said = headline.headline(gathered, subjects)
    comparison = tables.section(subjects, part.measure, part.subject_word, folder, _counted(gathered))
    sections = (comparison, *part.pictures(gathered))
    _write(csv_path, tables.to_csv(subjects))
    _write(html_path, page.render(gathered, said, tuple(_tiles(subjects, part.measure)), sections))
    alarm = [f"synthetic bars: {', '.join(synthetic)}"] if (synthetic := gathered.synthetic) else []
    claims = (plain(said.text), *map(plain, headline.cautions(subjects)))
    table = tables.for_terminal(subjects, part.measure, part.subject_word).text()
    lines = (*alarm, *gathered.notes, *claims, "", table, "", str(csv_path), str(html_path))
    return Summary("\n".join(lines), ExitCode.OK)


def _counted(gathered: Gathered) -> str:
    """Say how many looks the correction counts."""
    replaced = len(runs_replaced(gathered))
    older = f", {replaced} of them by runs that newer ones replaced" if replaced else ""
    return f"all {text.count(num_looks(gathered), 'look')} at these bars{older}"


def _tiles(subjects: Sequence[SubjectRows], measure: Measure) -> Iterator[Tile]:
    """Yield the key figures: claims that hold, the median figure, the smallest p value, spread over seeds."""
    models = [row for subject in subjects for row in subject.models]
    better, worse = (
        sum(row.verdict is verdict for row in models) for verdict in (Verdict.BETTER, Verdict.WORSE)
    )
    undecided = len(models) - better - worse
    yield Tile("Better than every rival", f"{better} of {len(models)}", f"{undecided} not, {worse} worse")
    values = [value for row in models if (value := row.value(row.run.judged)) is not None]
    if values:
        span = f"from {signed(min(values), measure.digits)} to {signed(max(values), measure.digits)}"
        yield Tile(f"Median {measure.head}", signed(statistics.median(values), measure.digits), span)
    least = min((row for row in models if row.corrected_p is not None), key=_corrected, default=None)
    if least:
        yield Tile("Smallest p, corrected", p_value(least.corrected_p), least.name)


def _corrected(row: ModelRow) -> float:
    return 1.0 if row.corrected_p is None else row.corrected_p


def _write(path: Path, content: str) -> None:
    fix = "make room or give permission there, or choose another place with --out"
    with records.writing(path, fix=fix, exit_code=ExitCode.FAILED):
        records.write_text(path, content)
