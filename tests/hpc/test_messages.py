"""What the launcher says: every mistake comes with its remedy, in words that know no market."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCES = sorted((REPOSITORY / "hpc").rglob("*.py"))


def calls(path: Path, name: str) -> list[ast.Call]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", None) == name]


def test_every_mistake_is_told_with_its_remedy() -> None:
    without = [
        f"{path.relative_to(REPOSITORY)}:{call.lineno}"
        for path in SOURCES
        for call in calls(path, "UserError")
        if "fix" not in {keyword.arg for keyword in call.keywords}
    ]

    assert without == []


def test_the_launcher_names_no_share_and_no_setting_of_a_share() -> None:
    named = [
        f"{path.relative_to(REPOSITORY)}: {found[0]}"
        for path in SOURCES
        if (found := re.search(r"\b(STOCK|AAPL|XOM|data\.symbol)\b", path.read_text()))
    ]

    assert named == []
