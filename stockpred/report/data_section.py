"""What the report says of the bars: where they come from, how they were split, what the checks found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from stockpred.report.elements import ABSENT, Cell, Fold, Section, Table, heads, line
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import Chapter

SURVIVORSHIP = (
    "Survivorship: the universe was chosen with hindsight. Assets that failed, merged or were delisted "
    "before it was drawn up are not in it, which flatters returns and hides the worst tails."
)
_EXAMPLES = 3


def data(files: RunFiles, chapter: Chapter) -> Section:
    """Describe the bars from ``data_info.json``; what it does not tell is left out."""
    info = files.data_info
    tables = (_splits(info), _findings(info.get("findings") or {}), *chapter.data_tables)
    origin = info.get("origin")
    return Section(
        "Data",
        facts=tuple(_facts(files)),
        remarks=() if files.is_synthetic else (SURVIVORSHIP,),
        tables=tuple(table for table in tables if table.rows),
        folds=(Fold("Origin of the bars", json.dumps(origin, indent=2, default=str)),) if origin else (),
    )


def _facts(files: RunFiles) -> Iterator[tuple[str, str]]:
    info = files.data_info
    yield "source", "synthetic: made by a simulation" if files.is_synthetic else str(files.source)
    categories = Counter(str(asset.get("category")) for asset in files.assets)
    if categories:
        told = ", ".join(f"{count} {category}" for category, count in categories.items())
        yield "assets", f"{len(files.assets)} ({told})"
    if "num_bars" in info:
        yield "bars", f"{info['num_bars']:,} from {_date(info.get('first'))} to {_date(info.get('last'))}"
    if "num_tokens" in info:
        yield "tokens", f"{info['num_tokens']:,} in {info.get('num_segments', 0):,} stretches without a hole"
    if "num_usable_bars" in info:
        num_segments = info.get("num_segments", 0)
        stretches = "one stretch" if num_segments == 1 else f"{num_segments:,} stretches"
        yield "usable bars", f"{info['num_usable_bars']:,} in {stretches} without a hole"
    if "bars_sha256" in info:
        yield "SHA-256 of the bars", str(info["bars_sha256"])


def _splits(info: dict[str, Any]) -> Table:
    names = ("split", "scored from", "to", "context from", "windows", "scored bars", "left out")
    columns = heads(*names, words=("split",))
    windows, left_out = info.get("windows") or {}, info.get("left_out") or {}
    rows = [
        line(
            [
                name,
                _date(part.get("score_start_date")),
                _date(part.get("score_end_date")),
                _date(part.get("context_start_date")),
                _count(windows.get(name, {}).get("windows")),
                _count(windows.get(name, {}).get("targets")),
                _count(left_out.get(name)),
            ]
        )
        for name, part in (info.get("splits") or {}).items()
    ]
    return Table(columns, tuple(rows))


def _findings(findings: dict[str, Any]) -> Table:
    words = ("what the checks found", "what was done", "largest")
    columns = heads(words[0], "bars", "assets", words[1], words[2], words=words)
    rows = [
        line(
            [
                str(check).replace("_", " "),
                _count(found.get("count")),
                _count(found.get("symbols")),
                str(found.get("action", "")),
                Cell("", "; ".join(map(_example, found.get("examples", [])[:_EXAMPLES]))),
            ]
        )
        for check, found in findings.items()
    ]
    return Table(columns, tuple(rows), is_words=True)


def _example(example: dict[str, Any]) -> str:
    return f"{example.get('symbol')} {_date(example.get('time'))}"


def _date(moment: object) -> str:
    """Return the date of an ISO time; the hour too where it is not midnight."""
    if not isinstance(moment, str):
        return ABSENT
    day, _, clock = moment.replace(" ", "T").partition("T")
    return day if clock[:5] in ("", "00:00") else f"{day} {clock[:5]}"


def _count(number: object) -> str:
    return f"{number:,}" if isinstance(number, int) else ABSENT
