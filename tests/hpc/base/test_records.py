"""Files that survive a kill at any instant."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc.base import records

WRITER = """
import sys
from pathlib import Path
from hpc.base import records
path = Path(sys.argv[1])
number = 0
while True:
    number += 1
    {act}
"""


def _kill_while(act: str, path: Path, after_s: float) -> None:
    child = subprocess.Popen([sys.executable, "-c", WRITER.format(act=act), str(path)])
    while not (path.exists() and path.stat().st_size):
        assert child.poll() is None, "it ended before it wrote anything"
        time.sleep(0.005)
    time.sleep(after_s)
    child.send_signal(signal.SIGKILL)
    child.wait()


@pytest.mark.parametrize("after_s", [0.0, 0.013, 0.031, 0.057])
def test_a_file_written_whole_is_whole_after_a_kill(tmp_path: Path, after_s: float) -> None:
    path = tmp_path / "state.json"

    _kill_while("records.write_json(path, {'number': number, 'filling': 'x' * 200_000})", path, after_s)

    content = json.loads(path.read_text())
    assert len(content["filling"]) == 200_000


@pytest.mark.parametrize("after_s", [0.0, 0.013, 0.031])
def test_appended_rows_are_whole_and_in_order_after_a_kill(tmp_path: Path, after_s: float) -> None:
    path = tmp_path / "rows.jsonl"

    _kill_while("records.append_row(path, {'number': number, 'filling': 'y' * 5_000})", path, after_s)

    numbers = [row["number"] for row in records.read_rows(path)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


def test_a_torn_last_line_is_left_out_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')

    records.append_row(path, {"step": 3})

    assert [row["step"] for row in records.read_rows(path)] == [1, 3]


def test_a_row_of_which_the_disk_takes_only_parts_is_whole_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))

    records.append_row(path, {"step": 1, "loss": 0.25})
    records.append_row(path, {"step": 2, "loss": 0.125})

    assert records.read_rows(path) == [{"step": 1, "loss": 0.25}, {"step": 2, "loss": 0.125}]


def test_rows_after_the_resumed_step_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    records.write_rows(path, [{"step": step} for step in range(1, 8)])

    records.keep_rows(path, lambda row: row["step"] <= 4)

    assert [row["step"] for row in records.read_rows(path)] == [1, 2, 3, 4]


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    records.write_json(path, {"old": True})

    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write_json(path, {"new": float("nan")})

    assert records.read_json(path) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null"])
def test_an_unreadable_object_counts_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)

    assert records.read_json_if_any(path) is None
