"""Damage of every kind to the newest checkpoint, and disks that refuse."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hpc.base.errors import UserError
from stockpred.train import checkpoint

CPU = torch.device("cpu")
without_lease = checkpoint.without_lease


def save(root: Path, step: int, *, keep: int = 3, check_lease: Callable[[], None] = without_lease) -> None:
    contents = {
        "networks": {"model": {"weight": torch.full((4, 3), float(step))}},
        "optimizers": {"model": {"state": {0: {"step": torch.tensor(1.0)}}}},
        "state": {"step": step, "tracker": {"best": 0.5}},
    }
    checkpoint.save(root, step, contents, about={"world_size": 1}, keep=keep, check_lease=check_lease)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, empty, Path.unlink])
@pytest.mark.parametrize("name", ["networks.pt", "optimizers.pt", "state.pt", "manifest.json"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step)
    damage(tmp_path / "step_30" / name)
    found = checkpoint.find_newest(tmp_path)
    assert (found.step, found.directory) == (20, tmp_path / "step_20")
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith("step_30: ")
    assert name in found.skipped[0]
    weights = checkpoint.load(tmp_path / "step_20", "networks", CPU)["model"]["weight"]
    assert torch.equal(weights, torch.full((4, 3), 20.0))


def test_a_later_save_takes_the_place_of_a_damaged_one(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path, step)
    flip(tmp_path / "step_20" / "networks.pt")
    (tmp_path / "step_15.tmp-4711").mkdir()
    checkpoint.clean(tmp_path, checkpoint.find_newest(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_10", "step_20.bad"]
    save(tmp_path, 20)
    assert checkpoint.find_newest(tmp_path) == checkpoint.Found(20, tmp_path / "step_20", ())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_10", "step_20"]


def test_only_the_newest_are_kept_and_the_very_newest_always(tmp_path: Path) -> None:
    for step in (9, 10, 11, 100):
        save(tmp_path, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_100", "step_11"]
    save(tmp_path, 101, keep=0)
    assert [path.name for path in tmp_path.iterdir()] == ["step_101"]


def test_nothing_is_committed_by_an_attempt_that_lost_its_run(tmp_path: Path) -> None:
    def lost() -> None:
        raise UserError("another attempt owns this run")

    save(tmp_path / "c", 10)
    with pytest.raises(UserError, match="another attempt"):
        save(tmp_path / "c", 20, keep=1, check_lease=lost)
    assert checkpoint.find_newest(tmp_path / "c").step == 10
    with pytest.raises(UserError, match="another attempt"):
        checkpoint.save_best(tmp_path / "best", 20, {}, metric="loss", value=1.0, check_lease=lost)
    with pytest.raises(UserError, match="no usable best"):
        checkpoint.load_best(tmp_path / "best")


FULL_DISK = """
import resource, sys, pathlib, torch
from hpc.base.errors import UserError
from stockpred.train import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
big = {"networks": {"model": torch.zeros(1_000_000)}}
try:
    if sys.argv[2] == "step":
        checkpoint.save(pathlib.Path(sys.argv[1]), 20, big, about={}, keep=1, check_lease=lambda: None)
    else:
        root = pathlib.Path(sys.argv[1])
        checkpoint.save_best(root, 20, big, metric="loss", value=0.0, check_lease=lambda: None)
except UserError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("kind", ["step", "best"])
def test_a_disk_that_takes_no_more_is_said_plainly_and_the_old_stays(tmp_path: Path, kind: str) -> None:
    save(tmp_path / "step", 10)
    weights = {"model": {"weight": torch.ones(2)}}
    checkpoint.save_best(tmp_path / "best", 10, weights, metric="loss", value=1.0, check_lease=without_lease)
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / kind), kind],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert result.returncode == 7, result.stderr
    assert "cannot save" in result.stdout
    assert "make room" in result.stdout
    assert checkpoint.find_newest(tmp_path / "step").step == 10
    assert checkpoint.load_best(tmp_path / "best").step == 10
    assert list(tmp_path.glob("*/*tmp*")) == [], "what was half-written takes room"


def test_an_error_of_the_gpu_during_a_save_is_not_blamed_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        save(tmp_path, 10)
    assert list(tmp_path.iterdir()) == []


def test_the_best_weights_are_replaced_and_damage_is_noticed(tmp_path: Path) -> None:
    for step, value in ((10, 0.9), (30, 0.7)):
        weights = {"model": {"weight": torch.full((2,), value)}}
        checkpoint.save_best(
            tmp_path, step, weights, metric="cross_entropy", value=value, check_lease=without_lease
        )
    best = checkpoint.load_best(tmp_path)
    assert (best.step, best.metric, best.value) == (30, "cross_entropy", 0.7)
    assert torch.equal(best.networks["model"]["weight"], torch.full((2,), 0.7))
    (file,) = tmp_path.glob("step_30-*.pt")
    flip(file)
    with pytest.raises(UserError, match="does not match its checksum"):
        checkpoint.load_best(tmp_path)


def save_best(root: Path, step: int) -> None:
    weights = {"model": {"weight": torch.full((2,), float(step))}}
    checkpoint.save_best(root, step, weights, metric="loss", value=1.0 / step, check_lease=without_lease)


def steps_in(best: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step_").split("-")[0]) for path in best.glob("*.pt"))


def test_best_weights_stay_while_a_checkpoint_may_need_them(tmp_path: Path) -> None:
    best, checkpoints = tmp_path / "best", tmp_path / "checkpoints"
    contents = {"state": {}}
    for step, best_step in ((10, 8), (20, 8), (30, 27), (40, 36)):
        save_best(best, best_step) if best_step not in steps_in(best) else None
        about = {"best_step": best_step}
        checkpoint.save(checkpoints, step, contents, about=about, keep=2, check_lease=without_lease)
        save_best(best, step + 1)
        assert best_step in steps_in(best)
        checkpoint.return_to_best(
            best, best_step, metric="loss", value=1.0 / best_step, check_lease=without_lease
        )
        checkpoint.prune_best(best, checkpoints)
    assert steps_in(best) == [27, 36]
    assert checkpoint.load_best(best).step == 36


def test_the_best_weights_of_an_erased_future_give_way_to_those_of_the_checkpoint(tmp_path: Path) -> None:
    for step in (10, 20):
        save_best(tmp_path, step)
    assert checkpoint.return_to_best(tmp_path, 10, metric="loss", value=0.1, check_lease=without_lease)
    best = checkpoint.load_best(tmp_path)
    assert (best.step, best.metric, best.value) == (10, "loss", 0.1)
    assert torch.equal(best.networks["model"]["weight"], torch.full((2,), 10.0))
    checkpoint.prune_best(tmp_path, tmp_path / "none")
    assert steps_in(tmp_path) == [10]


def test_best_weights_that_are_lost_or_damaged_are_not_replaced_by_others(tmp_path: Path) -> None:
    for step in (10, 20):
        save_best(tmp_path, step)
    flip(next(tmp_path.glob("step_10-*.pt")))
    assert not checkpoint.return_to_best(tmp_path, 10, metric="loss", value=0.1, check_lease=without_lease)
    with pytest.raises(UserError, match="no usable best"):
        checkpoint.load_best(tmp_path)
    assert checkpoint.return_to_best(tmp_path, None, metric="loss", value=None, check_lease=without_lease)


def test_a_pickle_of_code_is_not_loaded(tmp_path: Path) -> None:
    tmp_path.joinpath("step_1").mkdir()
    torch.save({"run": resource.getrlimit}, tmp_path / "step_1" / "state.pt")
    with pytest.raises(Exception, match="Weights only"):
        checkpoint.load(tmp_path / "step_1", "state", CPU)
