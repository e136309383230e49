from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.base.errors import UserError
from stockpred.data import store


def _write(
    directory: Path, text: str, *, check_lease: Callable[[], None] = lambda: None, **made_from: int
) -> None:
    with store.replacing(directory, made_from, check_lease) as aside:
        (aside / "a.txt").write_text(text)


def test_the_manifest_tells_size_hash_and_origin(tmp_path: Path) -> None:
    _write(tmp_path / "prepared", "bars", seed=1)
    manifest = store.verify(tmp_path / "prepared")
    assert manifest["files"] == {"a.txt": {"bytes": 4, "sha256": hashlib.sha256(b"bars").hexdigest()}}
    assert manifest["made_from"] == {"seed": 1}
    whole = hashlib.sha256(json.dumps(manifest["files"], sort_keys=True).encode()).hexdigest()
    assert manifest["sha256"] == whole


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    _write(tmp_path / "prepared", "old")

    def break_off() -> None:
        with store.replacing(tmp_path / "prepared", {}, lambda: None) as aside:
            (aside / "a.txt").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert (tmp_path / "prepared" / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
    store.verify(tmp_path / "prepared")


def test_a_new_store_takes_the_place_of_the_old(tmp_path: Path) -> None:
    for text in ("old", "new"):
        _write(tmp_path / "prepared", text)
    assert (tmp_path / "prepared" / "a.txt").read_text() == "new"


def test_a_directory_without_manifest_is_not_complete(tmp_path: Path) -> None:
    assert store.read_manifest(tmp_path) is None
    with pytest.raises(UserError, match="not complete"):
        store.verify(tmp_path)


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    _write(tmp_path / "prepared", "bars")
    (tmp_path / "prepared" / "a.txt").unlink()
    with pytest.raises(UserError, match="changed after"):
        store.verify(tmp_path / "prepared")


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory") as caught:
        _write(tmp_path / "file" / "prepared", "bars")
    assert caught.value.where == str(tmp_path / "file" / "prepared")
    assert caught.value.fix


def test_who_lost_the_run_meanwhile_leaves_the_other_ones_store(tmp_path: Path) -> None:
    _write(tmp_path / "prepared", "of the live attempt")
    calls = iter([None, UserError("another attempt holds this run")])

    def check_lease() -> None:
        if (refusal := next(calls)) is not None:
            raise refusal

    with pytest.raises(UserError, match="another attempt"):
        _write(tmp_path / "prepared", "of a zombie", check_lease=check_lease)
    assert (tmp_path / "prepared" / "a.txt").read_text() == "of the live attempt"
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
