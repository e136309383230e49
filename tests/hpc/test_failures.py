"""An error that nobody foresaw: one sentence for the person, the traceback in a log that it names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpc import cli
from hpc.base import errors
from hpc.base.errors import ExitCode, UserError, keep_failure
from hpc.plan import program
from hpc.run import find


def boom() -> Path:
    raise KeyError("limit")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hpc", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(str(ended.value.code))


@pytest.mark.parametrize("arguments", [(), ("--debug",)])
def test_a_bug_is_one_sentence_and_its_traceback_lies_in_the_log_that_is_named(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(find, "all_runs", lambda _: boom())

    code = run(monkeypatch, *arguments, "status")

    said = capsys.readouterr().err
    log = workspace / "runs" / errors.FAILURES
    assert code == ExitCode.FAILED
    assert said.startswith(f"error: {log}: this should not happen: KeyError: 'limit'\n    fix: ")
    assert ("Traceback" in said) == ("--debug" in arguments)
    assert "Traceback" in log.read_text()
    assert log.read_text().split(" ", 2)[2].startswith(f"hpc {' '.join((*arguments, 'status'))}\n")


def test_where_a_log_cannot_be_written_it_goes_to_the_systems_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "runs").write_text("a file where the folder should be")

    log = keep_failure(tmp_path / "runs", "it broke", command=["hpc", "status"])

    assert log.parent == tmp_path
    assert "it broke" in log.read_text()


def test_a_training_program_that_breaks_shows_its_last_line_and_not_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "COMMAND", ("-c", "raise RuntimeError('no torch here')"))

    with pytest.raises(UserError, match="RuntimeError: no torch here") as caught:
        program.ask(tmp_path, [])

    log = tmp_path / "runs" / errors.FAILURES
    assert caught.value.where == str(log)
    assert "Traceback" not in str(caught.value)
    assert "Traceback" in log.read_text()
