"""What a run of tests says at its very end, seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TESTS = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("the fixture broke")

def test_that_passes():
    pass

def test_that_fails(tmp_path):
    (tmp_path / "run.log").write_text("what the run said")
    print("printed before")
    assert 1 == 2

def test_whose_fixture_fails(broken):
    pass
"""


def run_pytest(folder: Path, *words: str) -> list[str]:
    (folder / "test_sample.py").write_text(TESTS)
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTEST_DEBUG_TEMPROOT": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.failed", "-p", "no:cacheprovider", *words],
        cwd=folder,
        env={name: value for name, value in environ.items() if not name.startswith("PYTEST_XDIST")},
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_the_last_lines_name_each_failed_test_what_it_said_and_its_files(
    tmp_path: Path, workers: str
) -> None:
    lines = run_pytest(tmp_path, workers)

    heading = lines.index("failed tests, what they said and the files they left:")
    assert " in " in lines[heading - 1]  # pytest's own last line
    listed = [line.strip() for line in lines[heading + 1 :]]
    first, second = (
        listed.index("test_sample.py::test_that_fails"),
        listed.index("test_sample.py::test_whose_fixture_fails"),
    )
    said = Path(listed[first + 1]).read_text()
    assert "assert 1 == 2" in said
    assert "printed before" in said
    assert (Path(listed[first + 2]) / "run.log").read_text() == "what the run said"
    assert "the fixture broke" in Path(listed[second + 1]).read_text()
    assert len(listed) == 6


def test_a_run_that_passes_ends_with_pytests_own_line(tmp_path: Path) -> None:
    assert " passed" in run_pytest(tmp_path, "-k", "passes")[-1]
