"""The section about the bars: where they come from, how they were split, what the quality checks found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from stockpred.report.elements import ABSENT, Cell, Collapsible, Section, Table, heads, table_row
from stockpred.report.format import whole
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import TaskReport

SURVIVORSHIP = (
    "Survivorship: the universe was chosen with hindsight. Assets that failed, merged or were delisted "
    "before it was drawn up are not in it, which flatters returns and hides the worst tails."
)
_EXAMPLES = 3


def data(files: RunFiles, task_report: TaskReport) -> Section:
    """Describe the bars by ``data_info.json``; whatever the file lacks is left out."""
    info = files.data_info
    tables = (_splits(info), _findings(info.get("findings") or {}), *task_report.data_tables)
    return Section(
        "Data",
        facts=tuple(_facts(files)),
        remarks=() if files.is_synthetic else (SURVIVORSHIP,),
        tables=tuple(table for table in tables if table.rows),
        collapsibles=_origin(info.get("origin")),
    )


def _facts(files: RunFiles) -> Iterator[tuple[str, str]]:
    info = files.data_info
    yield "source", "synthetic: made by a simulation" if files.is_synthetic else str(files.source)
    categories = Counter(str(asset.get("category")) for asset in files.assets)
    if categories:
        by_category = ", ".join(f"{count} {category}" for category, count in categories.items())
        yield "assets", f"{len(files.assets)} ({by_category})"
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


def _origin(origin: object) -> tuple[Collapsible, ...]:
    text = json.dumps(origin, indent=2, default=str)
    return (Collapsible("Origin of the bars", text),) if origin else ()


def _splits(info: dict[str, Any]) -> Table:
    names = ("split", "scored from", "to", "context from", "windows", "scored bars", "left out")
    columns = heads(*names, text_columns=("split",))
    windows, left_out = info.get("windows") or {}, info.get("left_out") or {}
    rows = [
        table_row(
            [
                name,
                _date(part.get("score_start_date")),
                _date(part.get("score_end_date")),
                _date(part.get("context_start_date")),
                whole(windows.get(name, {}).get("windows")),
                whole(windows.get(name, {}).get("targets")),
                whole(left_out.get(name)),
            ]
        )
        for name, part in (info.get("splits") or {}).items()
    ]
    return Table(columns, tuple(rows))


def _findings(findings: dict[str, Any]) -> Table:
    found_text, action, largest = text_columns = ("what the checks found", "what was done", "largest")
    columns = heads(found_text, "bars", "assets", action, largest, text_columns=text_columns)
    rows = [
        table_row(
            [
                str(check).replace("_", " "),
                whole(found.get("count")),
                whole(found.get("symbols")),
                str(found.get("action", "")),
                Cell("", "; ".join(map(_example, found.get("examples", [])[:_EXAMPLES]))),
            ]
        )
        for check, found in findings.items()
    ]
    return Table(columns, tuple(rows), has_long_text=True)


def _example(example: dict[str, Any]) -> str:
    return f"{example.get('symbol')} {_date(example.get('time'))}"


def _date(moment: object) -> str:
    """Return the date of an ISO time; the hour too where it is not midnight."""
    if not isinstance(moment, str):
        return ABSENT
    day, _, clock = moment.replace(" ", "T").partition("T")
    return day if clock[:5] in ("", "00:00") else f"{day} {clock[:5]}"
