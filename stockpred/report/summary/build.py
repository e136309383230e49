"""Put runs of one task side by side: a table for the terminal, a CSV file and a page."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.base import records
from hpc.base.errors import ExitCode
from stockpred.report.elements import Headline, Tile
from stockpred.report.format import p_value, plain, signed
from stockpred.report.summary import correction, gather, headline, page, rows, tables, task_part
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

    Raises UserError for runs of different tasks, for a ledger of looks that cannot be read, and for a file
    that cannot be written.
    """
    files = gather.read(run_dirs)
    task = gather.only_task(files)
    if task is None:
        return _nothing(gather.nothing(files))
    part = task_part.of(task)
    gathered = gather.gather(files, part.reader)
    return _written(gathered, part, prefix) if gathered.subjects else _nothing(gathered)


def _nothing(gathered: Gathered) -> Summary:
    return Summary("\n".join((*gathered.notes, "there is nothing to summarise")), ExitCode.FAILED)


def _written(gathered: Gathered, part: TaskPart, prefix: Path) -> Summary:
    csv_path, html_path = (prefix.with_name(f"{prefix.name}.{ending}") for ending in ("csv", "html"))
    corrected = correction.of(gathered, part.measure.claim)
    subjects = rows.of(gathered, part.measure, corrected)
    said = headline.headline(subjects, part.measure, corrected)
    drawn = part.draw(gathered)
    gathered = gathered.with_problems(drawn.problems)
    folder = html_path.resolve().parent
    sections = (tables.section(subjects, part.measure, part.subject_word, folder, corrected), *drawn.sections)
    _write(csv_path, tables.to_csv(subjects))
    _write(html_path, page.render(gathered, said, tuple(_tiles(subjects, part.measure)), sections))
    table = tables.for_terminal(subjects, part.measure, part.subject_word)
    return Summary(
        "\n".join((*_told(gathered, subjects, said), "", table, "", str(csv_path), str(html_path))),
        ExitCode.OK,
    )


def _told(gathered: Gathered, subjects: Sequence[SubjectRows], said: Headline) -> Iterator[str]:
    """Yield the lines above the table in the terminal."""
    if gathered.synthetic:
        yield f"synthetic bars: {', '.join(gathered.synthetic)}"
    yield from gathered.notes
    yield plain(said.text)
    yield from map(plain, headline.cautions(subjects))


def _tiles(subjects: Sequence[SubjectRows], measure: Measure) -> Iterator[Tile]:
    """Yield the key figures: claims that hold, the median figure, the smallest p value."""
    models = [row for subject in subjects for row in subject.models]
    tested = [row for row in models if not row.is_sealed]
    if tested:
        better, worse = (sum(row.verdict is one for row in tested) for one in (Verdict.BETTER, Verdict.WORSE))
        undecided = len(tested) - better - worse
        yield Tile("Better than every rival", f"{better} of {len(tested)}", f"{undecided} not, {worse} worse")
    split, found = ("test", [row.test for row in tested]) if tested else _validation(models)
    values = [value for value in found if value is not None]
    if values:
        span = f"from {signed(min(values), measure.digits)} to {signed(max(values), measure.digits)}"
        name = f"Median {measure.head}, {split}"
        yield Tile(name, signed(statistics.median(values), measure.digits), span)
    known = {row: row.corrected_p for row in tested if row.corrected_p is not None}
    if known:
        least = min(known, key=known.__getitem__)
        yield Tile("Smallest p, corrected", p_value(known[least]), least.name)


def _validation(models: Sequence[ModelRow]) -> tuple[str, list[float | None]]:
    return "validation", [row.validation for row in models]


def _write(path: Path, content: str) -> None:
    fix = "make room or give permission there, or choose another place with --out"
    with records.writing(path, fix=fix, exit_code=ExitCode.FAILED):
        records.write_text(path, content)
