"""The core's promises, kept for a learner of two networks on real processes."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import toy_core
from runs_of_ranks import (
    LIMIT_S,
    Ranks,
    assert_close,
    assert_identical,
    checkpoint_of,
    ended,
    final_state,
)

from hpc.base import records
from hpc.base.errors import ExitCode
from hpc.run.paths import RunPaths
from stockpred.train import checkpoint
from tests.holds.control import hold, is_held

Row = dict[str, Any]

ENDLESS = {"epochs": 100_000}


@pytest.fixture
def launched() -> Iterator[Callable[..., Ranks]]:
    """Start ranks that do not outlive the test, and wait at the step ``hold_at`` where one is given."""
    started: Ranks = []

    def launch(
        run: Path,
        world_size: int,
        attempt: int,
        settings: Row,
        options: Row,
        hold_at: int | None = None,
        **environ: str,
    ) -> Ranks:
        hold(run, *(() if hold_at is None else (hold_at,)))
        ranks = toy_core.launch(run, world_size, attempt, settings, options, **environ)
        started.extend(ranks)
        return ranks

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def test_two_ranks_and_accumulation_equal_one_process_with_the_joint_batch(
    tmp_path: Path, launched: Callable[..., Ranks]
) -> None:
    joint, ranks, accumulated = tmp_path / "joint", tmp_path / "ranks", tmp_path / "accumulated"
    assert ended(launched(joint, 1, 1, {"batch_size": 16}, {})) == [0]
    assert ended(launched(ranks, 2, 1, {"batch_size": 8}, {})) == [0, 0]
    assert ended(launched(accumulated, 1, 1, {"batch_size": 8, "accumulate": 2}, {})) == [0]
    assert_close(joint, ranks)
    assert_close(joint, accumulated)


def test_accumulation_on_two_ranks_equals_one_process_with_the_joint_batch(
    tmp_path: Path, launched: Callable[..., Ranks]
) -> None:
    assert ended(launched(tmp_path / "joint", 1, 1, {"batch_size": 16}, {})) == [0]
    assert ended(launched(tmp_path / "ranks", 2, 1, {"batch_size": 4, "accumulate": 2}, {})) == [0, 0]
    assert_close(tmp_path / "joint", tmp_path / "ranks")


# Saving as often as ranks may agree on it; 75 steps, whatever the number of ranks.
KILLABLE = {"batch_size": 4, "checkpoint_every_s": 0.0, "keep_checkpoints": 3}
NUM_STEPS = 75
NOISY = {"is_noisy": True}


@pytest.mark.parametrize(
    ("world_size", "num_kills"),
    [(1, 2), (2, 2), (3, 2), *(pytest.param(size, 10, marks=pytest.mark.long) for size in (1, 2, 3))],
)
def test_killed_at_random_moments_a_run_ends_with_the_very_same_bits(
    tmp_path: Path, launched: Callable[..., Ranks], world_size: int, num_kills: int
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    settings = KILLABLE | {"epochs": 2 * world_size}
    calm = settings | {"checkpoint_every_s": 1000.0}
    assert ended(launched(undisturbed, world_size, 1, calm, NOISY)) == [0] * world_size
    moments = random.Random(world_size)
    for attempt in range(1, num_kills + 1):
        # No attempt gets further than its share, so that there is always something left to kill.
        ranks = launched(killed, world_size, attempt, settings, NOISY, hold_at=share(attempt, num_kills))
        wait_for_a_step(killed, attempt, ranks)
        wait_for(lambda: any((killed / "checkpoints").glob("step_*/manifest.json")), ranks)
        time.sleep(moments.uniform(0.0, 0.4))
        for rank in ranks:
            rank.kill()
        assert set(ended(ranks)) == {-9}
    assert ended(launched(killed, world_size, num_kills + 1, settings, NOISY)) == [0] * world_size
    assert_identical(undisturbed, killed)
    resumed = [row for row in records.read_rows(RunPaths(killed).events) if row["kind"] == "resumed"]
    assert len(resumed) == num_kills
    assert all(row["skipped"] == [] for row in resumed)


def share(attempt: int, num_kills: int) -> int:
    return NUM_STEPS * attempt // (num_kills + 1)


def wait_for_a_step(run: Path, attempt: int, ranks: Ranks) -> None:
    """Wait until this attempt has made its first step."""

    def has_begun() -> bool:
        status = records.read_json_if_any(RunPaths(run).status)
        return status is not None and status["attempt"] == attempt

    wait_for(has_begun, ranks)


def wait_for(is_so: Callable[[], bool], ranks: Ranks) -> None:
    """Wait for something that the ranks do; they go on meanwhile."""
    limit = time.monotonic() + LIMIT_S
    while not is_so():
        assert all(rank.poll() is None for rank in ranks), [rank.communicate()[0] for rank in ranks]
        assert time.monotonic() < limit
        time.sleep(0.01)


def stopped_at(step: int, run: Path, ranks: Ranks) -> list[int]:
    """Wait until the first attempt waits at ``step``, tell rank 0 to stop; return the ranks' exit codes."""
    wait_for(lambda: is_held(RunPaths(run), attempt=1, step=step), ranks)
    ranks[0].terminate()
    return ended(ranks)


def test_three_ranks_do_not_resume_exactly_without_the_rehearsal(
    tmp_path: Path, launched: Callable[..., Ranks]
) -> None:
    """The control: the test above would see a resume that is not exact."""
    options = {"skips_rehearsal": True}
    settings = {"batch_size": 4, "epochs": 2, "max_steps": 12}
    assert ended(launched(tmp_path / "whole", 3, 1, settings, options)) == [0, 0, 0]
    ranks = launched(tmp_path / "parts", 3, 1, settings, options, hold_at=6)
    assert stopped_at(6, tmp_path / "parts", ranks) == [85, 85, 85]
    assert ended(launched(tmp_path / "parts", 3, 2, settings, options)) == [0, 0, 0]
    with pytest.raises(AssertionError):
        assert_identical(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_one_rank_stops_all_with_one_checkpoint(
    tmp_path: Path, launched: Callable[..., Ranks], signalled: int
) -> None:
    ranks = launched(tmp_path, 2, 1, ENDLESS, {})
    wait_for_a_step(tmp_path, 1, ranks)
    ranks[signalled].terminate()
    assert ended(ranks) == [ExitCode.CONTINUE_LATER] * 2
    events = [
        (row["kind"], row.get("cause") or row.get("reason"))
        for row in records.read_rows(RunPaths(tmp_path).events)
    ]
    assert events == [("stop_agreed", "signal"), ("checkpoint", "stop")]


def test_a_deadline_is_met_with_a_checkpoint_and_no_signal(
    tmp_path: Path, launched: Callable[..., Ranks]
) -> None:
    ranks = launched(tmp_path, 2, 1, ENDLESS | {"checkpoint_every_s": 1.0}, {"leave_within_s": 6.0})
    assert ended(ranks) == [ExitCode.CONTINUE_LATER] * 2
    last = records.read_rows(RunPaths(tmp_path).events)[-1]
    assert (last["kind"], last["reason"]) == ("checkpoint", "stop")
    assert last["time"] < float((tmp_path / "deadline").read_text())
    assert (checkpoint_of(tmp_path) / "manifest.json").exists()


def test_when_one_rank_dies_the_others_end_quickly_and_say_so(
    tmp_path: Path, launched: Callable[..., Ranks]
) -> None:
    ranks = launched(tmp_path, 3, 1, ENDLESS, {})
    wait_for_a_step(tmp_path, 1, ranks)
    ranks[1].kill()
    begin = time.monotonic()
    outputs = [rank.communicate(timeout=LIMIT_S)[0] for rank in ranks]
    assert time.monotonic() - begin < toy_core.SETTINGS["collective_timeout_s"] / 2
    assert [rank.returncode for rank in ranks] == [ExitCode.FAILED, -9, ExitCode.FAILED]
    assert "lost contact with another rank" in outputs[0]
    assert "lost contact" in outputs[2]


def test_a_loss_that_is_not_finite_stops_all_ranks_and_spares_the_checkpoints(
    tmp_path: Path, launched: Callable[..., Ranks]
) -> None:
    ranks = launched(tmp_path, 2, 1, {"epochs": 4}, {"bad_step": 14})
    outputs = [rank.communicate(timeout=LIMIT_S)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [ExitCode.FAILED] * 2
    assert all("not finite at step 14" in output for output in outputs)
    assert json.loads((RunPaths(tmp_path).best / "manifest.json").read_text())["step"] < 14
    assert all(row["step"] < 14 for row in records.read_rows(RunPaths(tmp_path).metrics))


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, launched: Callable[..., Ranks]) -> None:
    assert ended(launched(tmp_path, 2, 1, {}, {})) == [0, 0]
    before = {path: path.read_bytes() for path in checkpoint_of(tmp_path).iterdir()}
    metrics = RunPaths(tmp_path).metrics.read_bytes()
    assert ended(launched(tmp_path, 2, 2, {}, {})) == [0, 0]
    assert {path: path.read_bytes() for path in checkpoint_of(tmp_path).iterdir()} == before
    assert RunPaths(tmp_path).metrics.read_bytes() == metrics


def test_after_a_kill_no_weights_of_the_erased_future_are_the_best(
    tmp_path: Path, launched: Callable[..., Ranks]
) -> None:
    """The attempt that is killed has found better weights than those that its last checkpoint knows of."""
    paths = RunPaths(tmp_path)
    ranks = launched(tmp_path, 1, 1, {"epochs": 50}, {}, hold_at=20)
    assert stopped_at(20, tmp_path, ranks) == [85]
    state = final_state(tmp_path)["state"]

    ranks = launched(tmp_path, 1, 2, {"epochs": 50}, {}, hold_at=200)
    wait_for(lambda: is_held(paths, attempt=2, step=200), ranks)
    assert best_of(paths) not in (None, state["tracker"]["best_step"])
    ranks[0].kill()
    ended(ranks)
    assert final_state(tmp_path)["state"] == state

    # The third has nothing left to do: it ends with what the checkpoint knows.
    assert ended(launched(tmp_path, 1, 3, {"epochs": 50, "max_steps": state["step"]}, {})) == [0]
    assert best_of(paths) == state["tracker"]["best_step"]
    assert checkpoint.load_best(paths.best).value == state["tracker"]["best"]


def best_of(paths: RunPaths) -> int | None:
    """Return the step of the best weights."""
    manifest = records.read_json_if_any(paths.best / "manifest.json")
    return None if manifest is None else int(manifest["step"])


def test_half_precision_with_a_loss_scale_resumes_exactly(
    tmp_path: Path, launched: Callable[..., Ranks]
) -> None:
    settings = {"precision": "fp16", "epochs": 3}
    assert ended(launched(tmp_path / "whole", 1, 1, settings, {})) == [0]
    ranks = launched(tmp_path / "parts", 1, 1, settings, {}, hold_at=10)
    assert stopped_at(10, tmp_path / "parts", ranks) == [85]
    assert ended(launched(tmp_path / "parts", 1, 2, settings, {})) == [0]
    assert_identical(tmp_path / "whole", tmp_path / "parts")
    scaler = final_state(tmp_path / "whole")["optimizers"]["critic"]["scaler"]
    assert scaler["_growth_tracker"] > 0
