"""What docs/library.md says is so: its snippets run, and its counts are right."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from stockpred.library.options import DistributedConfig

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "library.md").read_text()
SNIPPETS = re.findall(r"^```python ?(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
LIMIT_S = 500


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(program)
    return subprocess.run(
        [sys.executable, path.name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def named(name: str) -> str:
    (only,) = [content for title, content in SNIPPETS if title == name]
    return only


def test_every_snippet_runs_one_after_the_other(tmp_path: Path) -> None:
    done = run(tmp_path, "".join(content for _, content in SNIPPETS))
    assert done.returncode == 0, done.stderr
    kept = {path.name for path in (tmp_path / "checkpoints").glob("*.pt")}
    assert kept == {f"checkpoint_epoch_{epoch}.pt" for epoch in (1, 2, 3)}
    assert len(done.stdout.splitlines()) == 2


def test_the_foreign_script_becomes_resumable_with_as_many_lines_as_the_text_says() -> None:
    """One line is new, and one takes the place of six."""
    changes = [
        line[0]
        for line in difflib.ndiff(named("plain").splitlines(), named("resumable").splitlines())
        if line[:2] in ("+ ", "- ") and line[2:].strip()
    ]
    assert (changes.count("+"), changes.count("-")) == (2, 6)
    assert "is new, one takes the place of the loop's six" in TEXT


BROKEN_OFF = "import stockpred.library.epochs as e, os; e.EpochEnd.__call__ = lambda *_: os._exit(9)\n"
SAVED = 'import torch; torch.save(model.state_dict(), "weights.pt")\n'


def test_the_resumable_script_ends_with_the_same_bits_after_a_death(tmp_path: Path) -> None:
    """The process ends without a word when the first epoch is over, with all that it knew."""
    seeded = "import torch; torch.manual_seed(0)\n" + named("resumable") + SAVED
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    assert run(whole, seeded).returncode == 0
    assert run(parts, BROKEN_OFF + seeded).returncode == 9
    assert run(parts, seeded).returncode == 0
    expected, found = (torch.load(folder / "weights.pt", weights_only=True) for folder in (whole, parts))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_table_of_settings_names_each_one_with_its_default() -> None:
    table = TEXT.split("### Settings")[1].split("\n## ")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    told = {
        name: default
        for names, defaults in rows
        for name, default in zip(
            re.findall(r"`(\w+)`", names), re.split(r", ", defaults.strip()), strict=True
        )
    }
    actual = {field.name: _shown(field.default) for field in fields(DistributedConfig)}
    assert told == actual


def _shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


@pytest.mark.parametrize("name", re.findall(r"stockpred\.(\w+)", TEXT))
def test_what_the_text_names_in_the_package_is_there(name: str) -> None:
    import stockpred

    assert name in dir(stockpred) or (ROOT / "stockpred" / f"{name}.py").exists()
