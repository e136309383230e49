"""Where a training goes on: after a kill, from an epoch that was gone back to, with whatever state it had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hpc.base.errors import UserError
from stockpred import DistributedConfig, DistributedTrainer
from stockpred import launch_distributed_training as launch
from stockpred.library import checkpoints
from stockpred.library.goingback import EpochFiles
from stockpred.train import core
from tests.stockpred.library.compare import assert_identical
from tests.stockpred.library.scripts import NUM_SAMPLES, Line, new_model

BATCH_SIZE = 10
STEPS_PER_EPOCH = NUM_SAMPLES // BATCH_SIZE


class Killed(Exception):
    """Stands for whatever ends a process."""


class Breaking(Line):
    """Breaks off in its ``step``-th batch; the first of a process is read by its warm-up."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step * BATCH_SIZE

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().__getitem__(index)


class Script:
    """What a person's script makes, and what it does when it is started."""

    def __init__(self, folder: Path | None, lr: Any = 0.01, **settings: Any) -> None:
        self.model = new_model(dropout=0.2)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)
        config = DistributedConfig(use_distributed=False, checkpoint_dir=folder, **settings)
        self.trainer = DistributedTrainer(self.model, config)

    def load(self, path: Path) -> Script:
        self.trainer.load_checkpoint(path, self.optimizer)
        return self

    def train(self, num_epochs: int, dataset: Line | None = None) -> dict[str, Any]:
        batches = DataLoader(dataset or Line(), BATCH_SIZE, shuffle=True)
        history = self.trainer.train(batches, self.optimizer, nn.MSELoss(), num_epochs)
        return {
            "model": {name: value.clone() for name, value in self.model.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "history": history,
        }


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def epochs_in(folder: Path) -> list[int]:
    return [epoch for epoch, _ in checkpoints._all(folder)]


def test_rates_that_are_numbers_of_numpy_are_kept_and_resumed(tmp_path: Path) -> None:
    whole = Script(tmp_path / "whole").train(3)
    settings: dict[str, Any] = {"lr": np.float64(0.01), "checkpoint_every_s": 0.0}
    with pytest.raises(Killed):
        Script(tmp_path / "parts", **settings).train(3, Breaking(9))
    assert_identical(Script(tmp_path / "parts", **settings).train(3), whole)


class WithMemory(nn.Linear):
    """A module with a state that torch does not load."""

    def get_extra_state(self) -> Any:
        return {"seen": np.zeros(3)}

    def set_extra_state(self, state: Any) -> None:
        raise AssertionError(state)


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_state_that_could_not_be_loaded_is_refused_before_the_first_step(
    tmp_path: Path, is_kept: bool
) -> None:
    model = WithMemory(4, 1)
    before = model.weight.detach().clone()
    folder = tmp_path if is_kept else None
    trainer = DistributedTrainer(model, DistributedConfig(use_distributed=False, checkpoint_dir=folder))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        UserError, match=r"cannot hold networks\.model\._extra_state\.seen, a numpy"
    ) as caught:
        trainer.train(DataLoader(Line(), BATCH_SIZE), optimizer, nn.MSELoss(), 1)
    assert "get_extra_state" in str(caught.value.fix)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(("step", "resumed"), [(3, 0), (8, 5), (13, 10)])
def test_with_the_default_pace_of_checkpoints_no_more_than_the_epoch_is_trained_again(
    tmp_path: Path, step: int, resumed: int
) -> None:
    whole = Script(tmp_path / "whole").train(4)
    with pytest.raises(Killed):
        Script(tmp_path / "parts").train(4, Breaking(step))
    assert epochs_in(tmp_path / "parts")[-1:] == ([resumed // STEPS_PER_EPOCH] if resumed else [])
    assert_identical(Script(tmp_path / "parts").train(4), whole)
    found = [row["step"] for row in rows(tmp_path / "parts" / "events.jsonl") if row["kind"] == "resumed"]
    assert found == [resumed]


def test_in_a_notebook_the_same_call_goes_on_with_what_the_first_has_half_trained(tmp_path: Path) -> None:
    whole = Script(tmp_path / "whole").train(2)
    notebook = Script(tmp_path / "parts")
    with pytest.raises(Killed):
        notebook.train(2, Breaking(4))
    assert_identical(notebook.train(2), whole)


def test_the_file_of_an_epoch_never_comes_before_the_checkpoint_and_is_written_when_a_kill_prevented_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", killed)
        with pytest.raises(Killed):
            Script(tmp_path).train(3)
    assert epochs_in(tmp_path) == []
    assert (tmp_path / "checkpoints" / f"step_{STEPS_PER_EPOCH}").exists()
    with pytest.raises(Killed):
        Script(tmp_path).train(3, Breaking(0))
    assert epochs_in(tmp_path) == [1]


def test_going_back_again_after_the_end_trains_again(tmp_path: Path) -> None:
    whole = Script(tmp_path).train(4)
    start = checkpoints.path_of(tmp_path, 2)
    for _ in range(2):
        again = Script(tmp_path, lr=0.01).load(start)
        again.optimizer.param_groups[0]["lr"] = 0.5
        assert again.train(4)["history"]["train_loss"][2:] != whole["history"]["train_loss"][2:]
    assert_identical(Script(tmp_path).load(start).train(4), whole)


def test_more_epochs_after_going_back_go_on_from_the_last(tmp_path: Path) -> None:
    whole = Script(tmp_path).train(5)
    script = Script(tmp_path).load(checkpoints.path_of(tmp_path, 3))
    script.train(4)
    assert_identical(script.train(5), whole)
    started = [row for row in rows(tmp_path / "events.jsonl") if row["kind"] == "resumed"]
    assert [row["step"] for row in started] == [4 * STEPS_PER_EPOCH]


def test_what_lay_beyond_the_epoch_gone_back_to_is_dropped_and_what_lay_before_stays(tmp_path: Path) -> None:
    Script(tmp_path).train(6)
    before = rows(tmp_path / "metrics.jsonl")
    assert epochs_in(tmp_path) == [4, 5, 6]
    with pytest.raises(Killed):
        Script(tmp_path).load(checkpoints.path_of(tmp_path, 4)).train(9, Breaking(3))
    assert epochs_in(tmp_path) == [4]
    kept = [row for row in before if row["step"] <= 4 * STEPS_PER_EPOCH]
    assert rows(tmp_path / "metrics.jsonl")[: len(kept)] == kept


def test_the_epoch_gone_back_to_is_there_for_the_same_call_as_long_as_it_trains(tmp_path: Path) -> None:
    whole = Script(tmp_path / "whole").train(7)
    Script(tmp_path / "parts").train(3)
    start = checkpoints.path_of(tmp_path / "parts", 1)
    with pytest.raises(Killed):
        Script(tmp_path / "parts", keep_n_checkpoints=2).load(start).train(7, Breaking(27))
    assert epochs_in(tmp_path / "parts") == [1, 5, 6]
    found = Script(tmp_path / "parts", keep_n_checkpoints=2).load(start).train(7)
    assert_identical(found, whole)


def test_an_epoch_of_another_folder_begins_with_metrics_of_its_own(tmp_path: Path) -> None:
    Script(tmp_path / "one").train(2)
    Script(tmp_path / "other", lr=0.5).train(2)
    Script(tmp_path / "other").load(checkpoints.path_of(tmp_path / "one", 1)).train(2)
    assert min(row["step"] for row in rows(tmp_path / "other" / "metrics.jsonl")) > STEPS_PER_EPOCH


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_loaded_epoch_goes_on_within_the_warm_up_and_with_the_scale_of_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(core, "choose_precision", lambda *_: precision)
    settings: dict[str, Any] = {
        "warmup_epochs": 2.5,
        "scale_learning_rate": True,
        "gradient_accumulation_steps": 2,
    }
    whole = Script(tmp_path / "whole", **settings).train(3)
    start = checkpoints.path_of(tmp_path / "whole", 1)
    found = Script(tmp_path / "other", **settings).load(start).train(3)
    assert_identical(found, whole)
    assert_identical(*(last_optimizer(tmp_path / name) for name in ("other", "whole")))


def last_optimizer(folder: Path) -> Any:
    last = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name.removeprefix("step_")))
    return torch.load(last / "optimizers.pt", weights_only=True)


def test_the_last_epoch_is_written_whatever_the_frequency(tmp_path: Path) -> None:
    Script(tmp_path, save_frequency=2).train(3)
    assert epochs_in(tmp_path) == [2, 3]


def test_a_launched_training_that_keeps_nothing_gives_the_trained_model() -> None:
    config = DistributedConfig(gpus_per_node=1)
    found = launch(new_model, Line(), None, config, num_epochs=2, batch_size=10, learning_rate=0.01)
    assert found["epoch"] == [1, 2]
    data = Line()
    with torch.no_grad():
        losses = [nn.functional.mse_loss(m(data.inputs), data.targets) for m in (new_model(), found.model)]
    assert losses[1] < losses[0]


def full_disk(content: Any, file: Any) -> None:
    file.write(b"the beginning")
    raise RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0")


def test_a_disk_that_is_full_at_the_file_of_an_epoch_is_told_and_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = EpochFiles.passed

    def on_a_full_disk(self: EpochFiles, step: int, *, is_new: bool) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(torch, "save", full_disk)
            passed(self, step, is_new=is_new)

    monkeypatch.setattr(EpochFiles, "passed", on_a_full_disk)
    with pytest.raises(UserError, match=r"cannot save checkpoint_epoch_1\.pt") as caught:
        Script(tmp_path).train(2)
    assert "make room" in str(caught.value.fix)
    assert list(tmp_path.glob("*checkpoint_epoch*")) == []


def test_what_a_killed_save_has_left_goes_with_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / ".checkpoint_epoch_1.pt.4711.tmp"
    left.write_bytes(b"half")
    with pytest.raises(Killed):
        Script(tmp_path).train(1, Breaking(1))
    assert not left.exists()
