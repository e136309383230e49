"""Runs on many assets: seeds with their mean, cases, categories, and assets unseen in training."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import numpy as np
import pytest

from hpc.base import records
from hpc.run.paths import RunPaths
from stockpred.data.splits import Split
from stockpred.report.summary.build import summarise
from tests.stockpred.report.summary.written import (
    judged_rows_of,
    market,
    models_of,
    rows_of,
    table_of,
    text_of,
    write_market_run,
    write_run,
)


def write_seeds(root: Path, *seeds: int, gain: float = 0.0) -> list[Path]:
    """Write the runs of an array over ``training.seed``."""
    return [
        write_market_run(
            root, f"run-{seed}", seed=seed, gain=gain, overrides=(f"training.seed={seed}", "training.lr=1e-3")
        )
        for seed in seeds
    ]


def test_seeds_of_an_array_stand_side_by_side_in_numerical_order_with_their_mean(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path, 10, 2, 1)
    told = summarise(runs, tmp_path / "sum").text
    rows = [row for row in judged_rows_of(tmp_path / "sum") if row["forecaster"] == "market_gpt"]
    assert [(row["seed"], row["settings"]) for row in rows] == [
        (seed, "training.lr=1e-3") for seed in ("1", "2", "10")
    ]
    crps = [float(row["crps_bp"]) for row in rows]
    assert len(set(crps)) == 3
    mean, deviation = statistics.fmean(crps), statistics.stdev(crps)
    shown = f"{mean:.2f} ({deviation:.2f})"
    (line,) = (line for line in table_of(told) if "mean (sd) of 3 seeds" in line)
    assert line.endswith(shown)
    page = text_of(tmp_path / "sum")
    assert f"{shown} Last value" in page
    assert (
        f"crypto market_gpt training.lr=1e-3: CRPS, bp {mean:.2f} on average over 3 seeds (test), "
        f"with a standard deviation of {deviation:.2f}."
    ) in page


def test_seeds_of_forecast_runs_have_their_mean_skill(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "A", run_id=f"run-{seed}", seed=seed) for seed in (3, 1)]
    told = summarise(runs, tmp_path / "sum").text
    skill = [100 * float(row["skill"]) for row in judged_rows_of(tmp_path / "sum") if row["best_step"]]
    low, high = sorted(skill)
    assert f"{statistics.fmean(skill):.2f} ({(high - low) / np.sqrt(2):.2f})" in told
    assert [row.name for row in models_of(runs)] == ["A mlp (seed 1)", "A mlp (seed 3)"]


def test_a_seed_that_is_still_sealed_leaves_the_mean_of_the_test_open(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "A", run_id=f"run-{seed}", seed=seed, is_sealed=seed == 2) for seed in (1, 2)]
    (line,) = (line for line in table_of(summarise(runs, tmp_path / "sum").text) if "mean (sd)" in line)
    assert line.split()[-1] == "-"
    assert "on average over 2 seeds (validation)" in text_of(tmp_path / "sum")


def test_one_seed_has_no_mean(tmp_path: Path) -> None:
    told = summarise(write_seeds(tmp_path, 1), tmp_path / "sum").text
    assert "mean (sd)" not in told
    assert "on average over" not in text_of(tmp_path / "sum")


def test_a_newer_run_of_the_same_seed_takes_the_place_of_the_older(tmp_path: Path) -> None:
    by_default = write_market_run(tmp_path, "old", seed=1, written=1)
    by_hand = write_market_run(tmp_path, "new", seed=1, written=2, overrides=("training.seed=1",))
    other = write_market_run(tmp_path, "other", seed=2, written=1)
    told = summarise([by_default, by_hand, other], tmp_path / "sum").text
    assert "left out: crypto market_gpt (old), older than new" in told
    assert "mean (sd) of 2 seeds" in told


def test_each_case_has_a_block_of_its_own_and_other_bars_are_left_out(tmp_path: Path) -> None:
    new = write_market_run(tmp_path, "new", written=2_000)
    other = write_market_run(tmp_path, "other", num_days=50, overrides=("training.lr=1",), written=1_000)
    elsewhere = write_market_run(tmp_path, "b", case="full", num_days=50)
    told = summarise([new, other, elsewhere], tmp_path / "sum").text
    assert "left out: crypto market_gpt training.lr=1 (other), scored on other bars than new" in told
    rows = judged_rows_of(tmp_path / "sum")
    assert [row["subject"] for row in rows] == ["crypto"] * 3 + ["full"] * 3
    blocks = "\n".join(table_of(told)[1:]).split("\n\n")
    assert [{line.split()[0] for line in block.splitlines()} for block in blocks] == [{"crypto"}, {"full"}]


def test_categories_and_unseen_assets_have_rows_with_figures_of_their_own(tmp_path: Path) -> None:
    run = write_market_run(tmp_path, "a", gain=0.1)
    summarise([run], tmp_path / "sum")
    for split in (Split.TEST, Split.VALIDATION):
        rows = [
            row
            for row in rows_of(tmp_path / "sum")
            if (row["split"], row["forecaster"]) == (split.text, "last_value")
        ]
        groups = [(row["group"], row["is_unseen"], row["num_bars"], row["num_assets"]) for row in rows]
        assert groups == [
            ("all", "False", "180", "3"),
            ("crypto", "False", "120", "2"),
            ("us_equity", "False", "60", "1"),
            ("us_equity", "True", "60", "1"),
        ]
        bars = market(split, 60, "ABCD")
        size, asset = np.abs(bars.realised_return), bars.asset
        expected = [size[asset < 3].mean(), size[asset < 2].mean(), size[asset == 2].mean()]
        found = [float(row["crps_bp"]) for row in rows]
        assert found == pytest.approx([1e4 * value for value in (*expected, size[asset == 3].mean())])


def test_only_the_claim_on_all_seen_assets_has_a_corrected_p_value(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path, 1, 2)
    summarise(runs, tmp_path / "sum")
    with_p = [row for row in rows_of(tmp_path / "sum") if row["corrected_p"]]
    assert [(row["seed"], row["forecaster"], row["split"], row["group"]) for row in with_p] == [
        (seed, "market_gpt", "test", "all") for seed in ("1", "2")
    ]


def test_the_table_fits_a_hundred_and_twenty_columns_beside_rivals_of_long_names(tmp_path: Path) -> None:
    runs = [
        write_market_run(tmp_path, f"run-{seed}", case="full_market", seed=seed, gain=-0.1) for seed in (1, 2)
    ]
    told = summarise(runs, tmp_path / "sum").text
    lines = told.split("\n\n", 1)[1].splitlines()[:-2]
    assert told.isascii()
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith("CRPS, bp; difference in CRPS of the return, bp, from the hardest rival")
    assert re.split(" {2,}", lines[1]) == [
        *("case", "forecaster", "seed", "step", "validation", "test", "difference (95 %)")
    ]


def test_equal_runs_in_another_order_give_equal_bytes(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path, 1, 2)
    for run in runs:
        records.write_json(RunPaths(run).data_info, {"source": "synthetic"})
    assert summarise(runs, tmp_path / "sum").text.startswith("synthetic bars: crypto\n")
    before = [(tmp_path / f"sum.{ending}").read_bytes() for ending in ("csv", "html")]
    summarise(list(reversed(runs)), tmp_path / "sum")
    assert [(tmp_path / f"sum.{ending}").read_bytes() for ending in ("csv", "html")] == before
