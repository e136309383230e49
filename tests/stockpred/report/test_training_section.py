"""How training went: why it ended, and a learning curve that one bad batch does not flatten."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest

from hpc.base import records
from hpc.plan.plan import build
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from stockpred.report.build import build_report
from stockpred.report.curves import Curve, ends_without_spikes, learning_curves

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    """Return a run of two attempts whose losses were written up to step 480."""
    root = tmp_path / "per_stock" / "table-A-0000"
    root.mkdir(parents=True)
    run = RunPaths(root)
    records.write_rows(run.metrics, [{"step": 480, "epoch": 5.9, "loss": {"model": 1.0}}])
    ledger = Ledger(run.events)
    ledger.append("attempt_started", attempt=1, job_id="71", nodes=["gpu1"])
    ledger.append("attempt_ended", attempt=1, exit_code=85, cause="deadline", decision="continue")
    ledger.append("attempt_started", attempt=2, job_id="72", nodes=["gpu2"])
    return run


def words(page: str) -> str:
    bare = re.sub(r"<(style|svg).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def at_step(paths: RunPaths, step: int, total_steps: int) -> None:
    records.write_json(paths.status, {"step": step, "total_steps": total_steps})


def finish(paths: RunPaths) -> None:
    ledger = Ledger(paths.events)
    ledger.append("finished", attempt=2)
    ledger.append("attempt_ended", attempt=2, exit_code=0, cause="finished", decision="finished")


def test_training_that_patience_ended_says_so_in_both_places(paths: RunPaths) -> None:
    plan = build(REPOSITORY, "crypto", preset="demo", overrides=["training.patience=7"])
    paths.config.write_text(plan.config_text)
    at_step(paths, 492, 4097)
    finish(paths)
    told = words(build_report(paths).read_text())
    assert "steps 492 of 4,097: early stopping, no better validation in 7 evaluations epochs" in told
    assert re.search(r"71 gpu1 0 \S deadline", told), told
    assert re.search(r"72 gpu2 0 \S early stopping", told), told


def test_the_attempt_that_writes_the_report_after_an_early_stop_says_so_too(paths: RunPaths) -> None:
    at_step(paths, 492, 4097)
    told = words(build_report(paths, is_conclusion=True).read_text())
    assert "steps 492 of 4,097: early stopping epochs" in told
    assert re.search(r"72 gpu2 0 \S early stopping", told), told
    assert "trained to the end" not in told


def test_no_early_stop_is_claimed_of_a_run_that_goes_on(paths: RunPaths) -> None:
    at_step(paths, 492, 4097)
    assert "early stopping" not in words(build_report(paths).read_text())


@pytest.mark.parametrize("status", [{"step": 480, "total_steps": 480}, {}, {"step": 480}])
def test_no_early_stop_is_claimed_of_a_run_that_went_to_its_last_step_or_does_not_say(
    paths: RunPaths, status: dict[str, int]
) -> None:
    records.write_json(paths.status, status)
    told = words(build_report(paths, is_conclusion=True).read_text())
    assert "early stopping" not in told
    assert "steps 480 epochs" in told
    assert re.search(r"72 gpu2 0 \S trained to the end", told), told


def curve(values: list[float]) -> Curve:
    return Curve("training", np.arange(1.0, len(values) + 1), np.asarray(values, dtype=np.float64))


def ticks(svg: str) -> list[float]:
    """Return the labels of the y axis, which alone are aligned right."""
    labels = re.findall(r"text-anchor: end[^>]*>\s*([^<]+?)\s*<", svg)
    return [float(label.replace("\u2212", "-")) for label in labels]


CALM = [1.0 + 0.1 * float(np.cos(step)) for step in range(200)]


def test_a_single_spike_lies_beyond_the_axis_and_the_caption_tells_of_it(paths: RunPaths) -> None:
    rows = [{"step": step, "loss": {"model": loss}} for step, loss in enumerate(CALM, 1)]
    records.write_rows(paths.metrics, rows)
    assert "The axis ends at" not in words(build_report(paths).read_text())
    rows[120]["loss"] = {"model": 57.5}
    records.write_rows(paths.metrics, rows)
    page = build_report(paths).read_text()
    found = re.search(r"The axis ends at ([\d.]+), .* the highest is 57.5 at step 121\.", words(page))
    assert found, words(page)
    assert 1.1 <= float(found[1]) <= 1.2
    shown = ticks(page)
    assert len(shown) >= 3
    assert 0.8 <= min(shown) < max(shown) <= 1.2


def test_losses_that_fall_by_and_by_are_drawn_whole() -> None:
    falling = curve([5.0 * float(np.exp(-step / 20)) for step in range(100)])
    assert ends_without_spikes([falling], []) is None
    assert max(ticks(learning_curves([falling], [], [], None))) >= 4.0


def test_every_validation_stays_on_the_axis() -> None:
    ends = ends_without_spikes([curve([*CALM, 90.0])], [curve([3.0, 2.0, 1.0])])
    assert ends is not None
    assert 3.0 < ends[1] < 4.0
    assert ends_without_spikes([curve([*CALM, 90.0])], [curve([100.0])]) is None
    assert ends_without_spikes([curve(CALM)], [curve([100.0])]) is None


@pytest.mark.parametrize("values", [[1.0], [9.0, 0.5, 0.4, 0.4], [float("nan")] * 30, [2.0] * 30])
def test_few_equal_or_absent_losses_leave_the_axis_alone(values: list[float]) -> None:
    assert ends_without_spikes([curve(values)], []) is None
    assert ends_without_spikes([], []) is None


def test_a_loss_that_is_not_a_number_hides_no_spike() -> None:
    ends = ends_without_spikes([curve([*([1.0, 1.2, float("nan")] * 20), 50.0])], [])
    assert ends is not None
    assert ends[1] < 1.5


def test_a_table_that_is_cut_at_the_right_has_a_shadow_there_that_its_end_covers(paths: RunPaths) -> None:
    """The cover moves with the content (local), the shadow stays with the box (scroll), the cover on top."""
    (rule,) = re.findall(r"\n\.scroll \{([^}]*)\}", build_report(paths).read_text())
    layers = re.findall(r"linear-gradient\(to left, (\S+).*?\)\) right / (\d+)px 100% no-repeat (\w+)", rule)
    (cover, cover_width, cover_way), (shadow, shadow_width, shadow_way) = layers
    assert (cover, cover_way, shadow_way) == ("#fff", "local", "scroll")
    assert shadow.startswith("rgba(31,")
    assert int(cover_width) > int(shadow_width)
