"""The section about the bars: where they come from, how they were split, what the quality checks found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from stockpred.report.elements import ABSENT, Cell, Collapsible, Section, Table, heads, table_row
from stockpred.report.format import percent, whole
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
    findings = _findings(info.get("findings") or {})
    tables = (_splits(info), _bars_by_category(info), findings, *task_report.data_tables)
    return Section(
        "Data",
        facts=tuple(_facts(files)),
        remarks=() if files.is_synthetic else (SURVIVORSHIP,),
        tables=tuple(table for table in tables if table.rows),
        collapsibles=(*_bars_by_asset(files), *_origin(info.get("origin"))),
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
    """Lay out each split's dates, its windows and targets, and what its dates lose."""
    columns = heads(
        "split", "from", "to", "windows", "scored bars", "left out by checks", "of squared returns, %",
        "unused at boundaries", text_columns=("split",),
    )  # fmt: skip
    windows, splits = info.get("windows") or {}, info.get("splits") or {}
    rows = [
        table_row(
            [
                name,
                *_dates(spans),
                whole(windows.get(name, {}).get("windows")),
                whole(windows.get(name, {}).get("targets")),
                whole(splits.get(name, {}).get("left_out")),
                percent(splits.get(name, {}).get("squared_return_left_out"), 1),
                whole(splits.get(name, {}).get("at_boundaries")),
            ]
        )
        for name, spans in (info.get("fold") or {}).items()
    ]
    return Table(columns, tuple(rows))


def _dates(spans: list[dict[str, Any]]) -> tuple[str, str]:
    """Return the first and the last date of a split; how many stretches it has, where there are several."""
    last = _date(spans[-1].get("to"))
    return _date(spans[0].get("from")), last if len(spans) == 1 else f"{last}, in {len(spans)} stretches"


def _bars_by_category(info: dict[str, Any]) -> Table:
    """Lay out how many bars each category has in each split."""
    splits: dict[str, dict[str, Any]] = info.get("splits") or {}
    bars = {name: split.get("bars") or {} for name, split in splits.items()}
    categories = sorted({category for counts in bars.values() for category in counts})
    columns = heads("bars of category", *splits, text_columns=("bars of category",))
    rows = [
        table_row([category, *(whole(counts.get(category)) for counts in bars.values())])
        for category in categories
    ]
    return Table(columns, tuple(rows))


def _bars_by_asset(files: RunFiles) -> tuple[Collapsible, ...]:
    """List how many bars each asset has in each split."""
    counted = [asset for asset in files.assets if isinstance(asset.get("num_in_split"), dict)]
    if not counted:
        return ()
    names = list(counted[0]["num_in_split"])
    lines = ["".join(f"{head:>12}" for head in names) + "  asset"]
    lines += [
        "".join(f"{asset['num_in_split'].get(name, 0):>12,}" for name in names)
        + f"  {asset.get('symbol')} ({asset.get('category')})"
        for asset in counted
    ]
    return (Collapsible("Bars of each asset", "\n".join(lines)),)


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
