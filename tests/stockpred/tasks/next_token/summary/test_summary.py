"""Next-token runs side by side: figures as the predictions have them, seeds, rivals, claims."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpc.base import records
from hpc.base.errors import ExitCode
from hpc.run.paths import RunPaths
from stockpred.report.build import build_report
from stockpred.report.summary.build import summarise
from stockpred.score import inference
from stockpred.tasks.next_token import results as results_file
from stockpred.tasks.next_token.summary.rows import BETTER, UNDECIDED, WORSE
from tests.stockpred.tasks.next_token.summary.written import (
    cached_market,
    cases_of,
    rows_of,
    text_of,
    write_run,
    write_seeds,
)


def test_nats_and_gains_are_those_of_the_predictions(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", seed=3, share=0.1)
    assert summarise([run], tmp_path / "sum").exit_code == ExitCode.OK
    model, *rivals = rows_of(tmp_path / "sum")
    predictions = pd.read_parquet(RunPaths(run).predictions)
    assert float(model["nats"]) == pytest.approx(predictions["nll"].mean())
    best = results_file.read(RunPaths(run).test_results).best_token_rival
    day = predictions["time"].dt.floor("D").astype(np.int64).to_numpy()
    gain = inference.mean_by_group((predictions["rival_nll"] - predictions["nll"]).to_numpy(), day)
    found = [float(model[f"gain_{best}{end}"]) for end in ("", "_low", "_high")]
    assert found == pytest.approx([gain.mean, gain.low, gain.high])
    assert [rival["forecaster"] for rival in rivals] == ["unigram", "bigram"]
    for rival in rivals:
        expected = float(rival["nats"]) - float(model["nats"])
        assert float(model[f"gain_{rival['forecaster']}"]) == pytest.approx(expected)
    assert (model["seed"], model["best_step"], model["run_id"], model["case"]) == ("3", "40", "a", "crypto")


def test_the_interval_of_the_gain_over_each_rival_is_that_of_its_own_differences(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", share=0.1)
    found = results_file.read(RunPaths(run).test_results)
    for name in ("unigram", "bigram"):
        difference = found.rival(name).model_nats_difference
        assert difference is not None
        assert difference.mean == pytest.approx(found.model.nats - found.rival(name).nats)  # type: ignore[operator]
    best = found.rival(found.best_token_rival).model_nats_difference
    assert best == found.nats_difference
    assert found.model.model_nats_difference is None


def test_results_without_a_difference_for_each_rival_show_the_interval_of_the_better_one_alone(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path, "a")
    path = RunPaths(run).test_results
    found = results_file.read(path)
    bare = tuple(replace(rival, model_nats_difference=None) for rival in found.rivals)
    results_file.write(path, replace(found, rivals=bare))
    summarise([run], tmp_path / "sum")
    (model, *_) = rows_of(tmp_path / "sum")
    other = "bigram" if found.best_token_rival == "unigram" else "unigram"
    assert (model[f"gain_{other}"] != "", model[f"gain_{other}_low"]) == (True, "")
    assert float(model[f"gain_{found.best_token_rival}_low"]) == -found.nats_difference.high


def test_seeds_of_an_array_stand_side_by_side_in_numerical_order_with_their_mean(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path, 10, 2, 1)
    text = summarise(runs, tmp_path / "sum").text
    rows = rows_of(tmp_path / "sum")
    assert [(row["seed"], row["settings"]) for row in rows[:3]] == [("1", ""), ("2", ""), ("10", "")]
    nats = [float(row["nats"]) for row in rows[:3]]
    assert len(set(nats)) == 3
    assert re.search(rf"mean of 3 seeds +{statistics.fmean(nats):.4f} ", text)
    page = text_of(tmp_path / "sum")
    assert f"market_gpt: mean of 3 seeds {statistics.fmean(nats):.4f} sd {statistics.stdev(nats):.4f}" in page
    assert f"with a standard deviation of {statistics.stdev(nats):.4f}." in page


def test_one_seed_has_no_mean(tmp_path: Path) -> None:
    text = summarise(write_seeds(tmp_path, 1), tmp_path / "sum").text
    assert "mean of" not in text
    assert "Spread over seeds" not in text_of(tmp_path / "sum")


def test_a_replaced_run_is_counted_by_the_correction_though_it_has_no_row(tmp_path: Path) -> None:
    old, new = (
        write_run(tmp_path, name, share=0.01, written=at) for at, name in enumerate(("old", "new"), 1)
    )
    ((alone,),) = (case.models for case in cases_of([new]))
    ((among_two,),) = (case.models for case in cases_of([old, new]))
    assert among_two.run.paths.run_id == "new"
    assert among_two.corrected_p == pytest.approx(min(1.0, 2 * alone.corrected_p))
    text = summarise([old, new], tmp_path / "sum").text
    assert "left out: crypto market_gpt (old), older than new" in text
    assert "all 2 tests on these bars, 1 of them by runs that newer ones replaced" in text_of(
        tmp_path / "sum"
    )


def test_the_headline_names_models_that_are_better_and_worse(tmp_path: Path) -> None:
    better = write_run(tmp_path, "better", share=0.2, overrides=["training.lr=1e-3"])
    worse = write_run(tmp_path, "worse", share=-0.9, overrides=["training.lr=1e-2"])
    claims = [row.claim for case in cases_of([better, worse]) for row in case.models]
    assert claims == [WORSE, BETTER]
    text = summarise([better, worse], tmp_path / "sum").text
    assert re.match(
        r"1 of 2 models beats the better of unigram and bigram: crypto market_gpt training\.lr=1e-3 by "
        r"\d\.\d+ nats per bar; 1 is worse than it: crypto market_gpt training\.lr=1e-2 by ",
        text,
    )


def test_a_gain_that_only_its_own_interval_supports_is_no_claim(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path, 1, 2, 3, 4)
    for at, run in enumerate(runs):
        path = RunPaths(run).test_results
        found = results_file.read(path)
        half, p_value = (0.005, 0.02) if at == 1 else (0.02, 0.5)
        difference = replace(
            found.nats_difference, mean=-0.01, low=-0.01 - half, high=-0.01 + half, p_value=p_value
        )
        results_file.write(path, replace(found, nats_difference=difference))
    assert {row.claim for case in cases_of(runs) for row in case.models} == {UNDECIDED}
    text = summarise(runs, tmp_path / "sum").text
    assert text.startswith("None of 4 models beats the better of unigram and bigram")
    assert "(seed 2) alone would look better (gain 0.0100 nats), but its corrected p value is 0.080." in text


def test_runs_tested_on_one_date_are_no_claims_and_no_tests(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path, 1, 2)
    path = RunPaths(runs[0]).test_results
    results_file.write(path, replace(results_file.read(path), num_dates=1, nats_difference=None))
    first, second = (row for case in cases_of(runs) for row in case.models)
    assert (first.corrected_p, first.claim) == (None, UNDECIDED)
    assert second.corrected_p == second.results.nats_difference.p_value
    summarise(runs, tmp_path / "sum")
    assert next(row["corrected_p"] for row in rows_of(tmp_path / "sum")) == ""
    path = RunPaths(runs[1]).test_results
    results_file.write(path, replace(results_file.read(path), num_dates=1, nats_difference=None))
    assert "None of 2 models beats" in summarise(runs, tmp_path / "sum").text


def test_a_run_on_other_bars_is_left_out_and_cases_have_blocks_of_their_own(tmp_path: Path) -> None:
    new = write_run(tmp_path, "new", written=2_000)
    other = write_run(tmp_path, "other", num_days=280, overrides=["training.lr=1"], written=1_000)
    elsewhere = write_run(tmp_path, "b", case="full", num_days=280)
    text = summarise([new, other, elsewhere], tmp_path / "sum").text
    assert "left out: crypto market_gpt training.lr=1 (other), scored on other bars than new" in text
    assert [row["case"] for row in rows_of(tmp_path / "sum")] == ["crypto"] * 3 + ["full"] * 3
    assert "\n\nfull" in text


def test_the_table_is_ascii_and_fits_a_hundred_columns(tmp_path: Path) -> None:
    text = summarise(write_seeds(tmp_path, 1, 2, share=-0.3), tmp_path / "sum").text
    table = text.split("\n\n", 1)[1].rsplit("\n\n", 1)[0].splitlines()
    assert text.isascii()
    assert max(map(len, table)) <= 100
    assert [line.split()[1] for line in table] == [
        "forecaster",
        "market_gpt",
        "market_gpt",
        "mean",
        "unigram",
        "bigram",
    ]


def test_the_page_links_to_the_report_and_draws_each_case_once(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a")
    RunPaths(run).tokenizer.write_text(cached_market(300).tokenizer.to_json())
    build_report(RunPaths(run))
    summarise([run], tmp_path / "sum")
    page = (tmp_path / "sum.html").read_text()
    assert re.findall(r'<a href="([^"]+)"', page) == ["crypto/a/report.html"]
    assert page.count("<svg") == 1
    assert not re.search(r"https?://|<script|@import", page)


def test_equal_runs_give_equal_bytes_and_synthetic_bars_are_said_first(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path, 1, 2)
    for run in runs:
        records.write_json(RunPaths(run).data_info, {"source": "synthetic"})
    assert summarise(runs, tmp_path / "sum").text.startswith("synthetic bars: crypto\n")
    before = [(tmp_path / f"sum.{ending}").read_bytes() for ending in ("csv", "html")]
    summarise(list(reversed(runs)), tmp_path / "sum")
    assert [(tmp_path / f"sum.{ending}").read_bytes() for ending in ("csv", "html")] == before
    assert "These bars are synthetic." in text_of(tmp_path / "sum")
