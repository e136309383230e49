"""What cannot be loaded again is refused when it is saved, by its name; numbers of numpy become plain."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpc.base.errors import UserError
from stockpred.train import checkpoint, tensorfile


class Own:
    """A class that only this module knows."""


def test_numbers_of_numpy_are_loaded_as_pythons(tmp_path: Path) -> None:
    content = {
        "lr": np.float64(0.1),
        np.int64(3): [np.float32(0.5), (np.bool_(True), "text")],
        "weights": torch.ones(2),
    }
    tensorfile.write(tmp_path / "state.pt", content)
    found = torch.load(tmp_path / "state.pt", weights_only=True)
    assert torch.equal(found.pop("weights"), torch.ones(2))
    assert found == {"lr": 0.1, 3: [0.5, (True, "text")]}
    assert type(found["lr"]) is float
    assert type(found[3][1][0]) is bool


def test_what_holds_no_number_of_numpy_is_not_copied_and_a_state_dict_stays_one() -> None:
    state = torch.nn.Linear(2, 2).state_dict()
    assert tensorfile.with_python_numbers(state) is state
    state["extra"] = np.float64(1.0)
    changed = tensorfile.with_python_numbers(state)
    assert type(changed) is OrderedDict
    assert changed._metadata == state._metadata  # type: ignore[attr-defined]
    assert type(state["extra"]) is np.float64


@pytest.mark.parametrize(
    ("value", "kind"),
    [(Own(), "Own"), (np.zeros(3), "numpy.ndarray"), (lambda: None, "function"), (open, "builtin")],
    ids=["class", "array", "function", "builtin"],
)
def test_what_cannot_be_loaded_is_refused_by_its_name_and_no_checkpoint_appears(
    tmp_path: Path, value: Any, kind: str
) -> None:
    contents = {"state": {"step": 5}, "optimizers": {"model": {"groups": [{"lr": 0.1}, {"lr": value}]}}}
    with pytest.raises(
        UserError, match=r"cannot hold optimizers\.model\.groups\.1\.lr, a .*" + kind
    ) as caught:
        checkpoint.save(tmp_path, 5, contents, about={}, keep=3, check_lease=checkpoint.without_lease)
    assert caught.value.where == "optimizers.model.groups.1.lr"
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_map_files_is_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = torch.load

    def without_mmap(*arguments: Any, mmap: bool = False, **options: Any) -> Any:
        if mmap:
            raise RuntimeError("unable to mmap 640 bytes: No such device (19)")
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", without_mmap)
    assert tensorfile.write(tmp_path / "state.pt", {"step": 1})["size"] > 0
