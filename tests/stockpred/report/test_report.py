"""The page a person opens: self-contained, honest, equal for equal inputs, possible from little."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hpc.base import records, text
from hpc.base.errors import UserError
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from stockpred.data.splits import Split
from stockpred.report import curves
from stockpred.report.build import build_report
from stockpred.report.format import parameter_count, signed, significant
from stockpred.score import claims, files
from stockpred.score.claims import Claim
from stockpred.score.compare import CRPS
from stockpred.score.inference import Estimate
from stockpred.score.metrics import EvaluatedModel
from stockpred.score.results import SplitScores
from stockpred.tasks.next_token import evaluate, figures, report
from stockpred.tasks.next_token.dataset import TokenDataset
from tests.stockpred.token_market import MakeMarket, market, rivals

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Check that tags nest and collect text, attributes and identifiers."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action"):
                self.references.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def scored(market: TokenDataset, split: Split) -> tuple[SplitScores, pd.DataFrame]:
    """Score a model that knows nothing beyond a little noise."""
    table = torch.log_softmax(torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (16, 16))), -1)
    own = evaluate.score_model(
        market, lambda batch: table[batch["tokens"]], split=split, context_length=12, stride=6, batch_size=16
    )
    evaluated = EvaluatedModel("market_gpt", 561_664, 40)
    return evaluate.score(market, own, split=split, evaluated=evaluated, rivals=rivals(market))


@cache
def usual_scores(split: Split) -> tuple[SplitScores, pd.DataFrame]:
    return scored(market(), split)


def fill(paths: RunPaths, own: TokenDataset | None = None, *, is_sealed: bool = False) -> SplitScores:
    """Write what a finished run of three attempts leaves behind."""
    for split in (Split.VALIDATION, *(() if is_sealed else (Split.TEST,))):
        scores, forecasts = usual_scores(split) if own is None else scored(own, split)
        scores = files.write(paths, "next_token", scores, forecasts, lambda: None)
    for step in range(1, 61):
        row = {"step": step, "epoch": step / 20, "loss": {"model": 3 - step / 60}, "lr": 1e-3}
        evaluated = {"validation": {"nats": 2.9 - 0.01 * min(step, 40)}} if step % 10 == 0 else {}
        records.append_row(paths.metrics, row | evaluated)
    write_events(paths)
    records.write_json(paths.data_info, DATA_INFO)
    records.write_json(
        paths.provenance, {"commit": "c0ffee", "python": "3.11.2", "packages": {"torch": "2.13"}}
    )
    paths.config.write_text("task: {name: next_token}\nname: <&$> 000660\n")
    paths.tokenizer.write_text((own or market()).tokenizer.to_json())
    curves.write_training_log(paths)
    return scores


DATA_INFO = {
    "source": "files",
    "bars_sha256": "ab" * 32,
    "num_bars": 2500,
    "num_tokens": 2400,
    "first": "2020-01-01T00:00:00+00:00",
    "last": "2021-02-23T00:00:00+00:00",
    "findings": {
        "spike": {"count": 2, "symbols": 1, "action": "left out of training", "examples": [{"symbol": "A1"}]}
    },
    "fold": {
        "train": [
            {"from": "2020-01-01T00:00:00", "to": "2020-05-04T00:00:00"},
            {"from": "2020-08-01T00:00:00", "to": "2020-10-04T00:00:00"},
        ]
    },
    "splits": {
        "train": {
            "bars": {"crypto": 1234, "equity": 0},
            "left_out": 17,
            "at_boundaries": 45,
            "squared_return_left_out": 0.0625,
        }
    },
}


def write_events(paths: RunPaths) -> None:
    rows: list[dict[str, object]] = [{"time": 0.0, "kind": "submitted", "job_id": "77"}]
    stops = ((0, 20, "deadline", 85), (20, 45, "preempted", 85), (45, 60, "finished", 0))
    for attempt, (first, last, cause, code) in enumerate(stops, 1):
        begin = 1000.0 * attempt
        common = {"attempt": attempt, "time": begin}
        rows.append({**common, "kind": "attempt_started", "job_id": "77", "nodes": [f"gpu{attempt}"]})
        if first:
            rows.append({**common, "kind": "resumed", "step": first})
        rows.append({**common, "kind": "checkpoint", "step": last, "reason": "stop"})
        rows.append(
            {**common, "kind": "attempt_ended", "time": begin + 65, "cause": cause, "exit_code": code}
        )
    records.write_rows(paths.events, rows)


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    root = tmp_path / "crypto" / "20260101-abc"
    root.mkdir(parents=True)
    return RunPaths(root)


@pytest.fixture
def results_of_run(paths: RunPaths) -> SplitScores:
    return fill(paths)


@pytest.mark.usefixtures("results_of_run")
def test_the_page_is_one_valid_file_without_script_or_outside_reference(paths: RunPaths) -> None:
    html = build_report(paths).read_text()
    page = Page(html)
    assert len(html.encode()) < 2_000_000
    assert "script" not in page.tags
    assert all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"https?://|//cdn|@import|url\((?!#)", html)
    assert len(page.ids) == len(set(page.ids))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', html))
    assert used <= set(page.ids)


@pytest.mark.usefixtures("results_of_run")
def test_equal_inputs_give_equal_bytes(paths: RunPaths) -> None:
    first = build_report(paths).read_bytes()
    assert build_report(paths).read_bytes() == first


def test_the_page_tells_the_verdict_the_rivals_and_the_attempts(
    paths: RunPaths, results_of_run: SplitScores
) -> None:
    words = Page(build_report(paths).read_text()).words
    assert "market_gpt with 562k parameters" in words
    for group in (results_of_run.pooled, *results_of_run.categories):
        assert f"test, {group.name}: {group.num_bars:,} bars" in words
        for rival in group.rivals:
            assert rival.label in words
        assert f"{group.model.nats:.3f}" in words
        assert f"{group.model.crps_bp:.2f}" in words
    for measure in ("CRPS of the return", "log loss of the return", "cross-entropy of the token"):
        assert measure in words
    assert "The run took 3 attempts" in words
    for told in (
        "gpu2",
        "preempted",
        "deadline",
        "1m 05s",
        "attempt 2",
        "c0ffee",
        "ab" * 32,
        "left out of training",
    ):
        assert told in words
    assert "Survivorship" in words
    assert "synthetic" not in words


@pytest.mark.usefixtures("results_of_run")
def test_the_attempt_that_writes_the_report_says_how_long_it_ran_and_waited(paths: RunPaths) -> None:
    kept = [row for row in records.read_rows(paths.events) if row.get("attempt") != 3]
    begin = time.time() - 7300.0
    started = {"time": begin, "kind": "attempt_started", "attempt": 3, "job_id": "78", "nodes": ["gpu9"]}
    records.write_rows(paths.events, [*kept, started])
    words = Page(build_report(paths, is_conclusion=True).read_text()).words
    waited = text.duration(begin - 2065.0)
    assert re.search(rf"78 gpu9 0 \S+ trained to the end 2h 0[12]m {waited}", words), words


@pytest.mark.usefixtures("results_of_run")
def test_the_page_counts_bars_by_split_category_and_asset(paths: RunPaths) -> None:
    asset = {"symbol": "A1", "category": "crypto", "num_in_split": {"train": 1200, "test": 0}}
    records.write_json(paths.asset_info, {"assets": [asset], "categories": ["crypto"]})
    words = Page(build_report(paths).read_text()).words
    assert "train 2020-01-01 2020-10-04, in 2 stretches \u2013 \u2013 17 6.2 45" in words
    assert "bars of category train crypto 1,234 equity 0" in words
    assert "train test asset 1,200 0 A1 (crypto)" in words


@pytest.mark.usefixtures("results_of_run")
def test_synthetic_bars_and_warnings_of_the_run_are_said_before_anything_else(paths: RunPaths) -> None:
    records.write_json(paths.data_info, {**DATA_INFO, "source": "synthetic"})
    Ledger(paths.events).append("warning", text="2 GPUs were requested but training ran on the CPU")
    words = Page(build_report(paths).read_text()).words
    head = words[: words.index("Scored once")]
    assert "These bars are synthetic." in head
    assert "2 GPUs were requested but training ran on the CPU." in head
    assert "On the synthetic test bars of" in head


@pytest.mark.usefixtures("results_of_run")
def test_what_a_config_says_is_shown_as_text_and_never_as_markup(paths: RunPaths) -> None:
    assert "name: <&$> 000660" in Page(build_report(paths).read_text()).words


def test_an_empty_run_gets_a_page_that_says_there_is_no_verdict(paths: RunPaths) -> None:
    words = Page(build_report(paths).read_text()).words
    assert "no verdict yet" in words


@pytest.mark.parametrize(
    "missing", ["events", "metrics", "data_info", "provenance", "predictions", "tokenizer"]
)
@pytest.mark.usefixtures("results_of_run")
def test_a_file_that_is_missing_costs_only_its_section(paths: RunPaths, missing: str) -> None:
    getattr(paths, missing).unlink()
    assert "market_gpt" in Page(build_report(paths).read_text()).words


@pytest.mark.parametrize("damaged", ["test_results", "predictions", "tokenizer"])
@pytest.mark.parametrize("content", [b"", b"{}", b"PAR1 and then nothing"])
@pytest.mark.usefixtures("results_of_run")
def test_a_file_that_is_damaged_or_of_another_version_is_left_out_with_a_note(
    paths: RunPaths, damaged: str, content: bytes
) -> None:
    path = getattr(paths, damaged)
    path.write_bytes(content)
    words = Page(build_report(paths).read_text()).words
    assert f"Left out: {path.name}" in words
    assert ("On the validation bars" in words) == (damaged == "test_results")


@pytest.mark.usefixtures("results_of_run")
def test_a_run_of_an_older_version_says_so_in_one_line(paths: RunPaths) -> None:
    paths.config.write_text("learner: {name: next_bar}\n")
    words = Page(build_report(paths).read_text()).words
    assert words.count("made by an older version") == 1
    assert "which named its learner and no task: its test results are not shown." in words
    assert "no verdict yet" in words


@pytest.mark.usefixtures("results_of_run")
def test_results_and_predictions_with_other_columns_are_left_out_with_a_note(paths: RunPaths) -> None:
    results = records.read_json(paths.test_results)
    records.write_json(paths.test_results, {key: results[key] for key in results if key != "pooled"})
    pd.read_parquet(paths.predictions).drop(columns="q05").to_parquet(paths.predictions)
    words = Page(build_report(paths).read_text()).words
    assert "Left out: test_results.json" in words
    assert "Left out: predictions.parquet" in words


def test_calibration_is_drawn_for_the_model_alone_where_the_rival_has_no_curve(
    results_of_run: SplitScores,
) -> None:
    group = results_of_run.pooled
    (both,) = report.calibration(group)
    silent = [replace(rival, coverage_curve=None) for rival in group.rivals]
    (alone,) = report.calibration(replace(group, rivals=tuple(silent)))
    crps = group.claim(CRPS)
    assert crps is not None
    hardest = group.rival(crps.hardest).label
    assert (hardest in both.svg, hardest in alone.svg) == (True, False)
    assert group.model.label in alone.svg


def test_no_report_is_written_by_an_attempt_that_lost_its_run(paths: RunPaths) -> None:
    def lost() -> None:
        raise UserError("another attempt holds this run")

    with pytest.raises(UserError, match="another attempt"):
        build_report(paths, check_lease=lost)
    assert not paths.report.exists()


def test_hostile_symbols_stay_text(paths: RunPaths) -> None:
    symbols = ("$A$", "<b>", "BRK&B", "^GSPC", "x'y\"")
    fill(paths, replace(market(num_assets=5), assets=symbols))
    page = Page(build_report(paths).read_text())
    for symbol in symbols:
        assert symbol in page.words


def claimed(scores: SplitScores, **verdict_of: float | None) -> SplitScores:
    """Return the scores with every difference of a measure's claim set; None leaves it without interval."""

    def changed(claim: Claim) -> Claim:
        if claim.measure not in verdict_of:
            return claim
        mean = verdict_of[claim.measure]
        estimate = None if mean is None else Estimate(mean, 0.01, mean - 0.02, mean + 0.02, 0.01, 100)
        return claims.of(claim.measure, {name: (mean or 0.0, estimate) for name in claim.differences})

    group = scores.pooled
    return replace(scores, pooled=replace(group, claims=tuple(map(changed, group.claims))))


@pytest.mark.parametrize(
    ("crps_bp", "log_loss", "told"),
    [
        (-0.29, -0.1, "better than every rival, by 0.29 bp of CRPS and 0.100 nats of log loss at least"),
        (-0.29, 0.0, "better than every rival in CRPS but not in log loss"),
        (0.0, -0.1, "better than every rival in log loss but not in CRPS"),
        (0.0, 0.0, "does not forecast the next return better than every rival"),
        (0.2, 0.0, "forecasts the next return worse than a rival does"),
        (0.0, 0.2, "forecasts the next return worse than a rival does"),
        (None, -0.1, "cannot be judged on so few dates"),
    ],
)
def test_the_verdict_follows_the_intervals_of_both_proper_scores(
    results_of_run: SplitScores, crps_bp: float | None, log_loss: float, told: str
) -> None:
    scores = claimed(results_of_run, crps_bp=crps_bp, log_loss=log_loss)
    found = report.headline("crypto", scores, is_synthetic=False)
    assert told in found.text
    assert found.is_good == (crps_bp == -0.29 and log_loss == -0.1)


@pytest.mark.parametrize("nats", [-0.5, 0.5])
def test_tokens_and_the_expected_close_decide_nothing(results_of_run: SplitScores, nats: float) -> None:
    usual = report.headline("crypto", results_of_run, is_synthetic=False)
    scores = claimed(results_of_run, nats=nats, squared_error=nats)
    found = report.headline("crypto", scores, is_synthetic=False)
    assert (found.text, found.is_good) == (usual.text, usual.is_good)
    assert found.details != usual.details


def test_details_tell_the_return_then_the_token_then_the_close(results_of_run: SplitScores) -> None:
    details = " ".join(report.headline("crypto", results_of_run, is_synthetic=False).details)
    told = [
        details.index(f"{words}: ")
        for words in (
            "crypto: CRPS",
            "equity: CRPS",
            "All assets, CRPS of the return, bp",
            "All assets, log loss of the return, nats",
            "All assets, cross-entropy of the token, nats",
            "All assets, squared error of the return, %\u00b2",
            "Skill of the expected close on the last value",
        )
    ]
    assert told == sorted(told)


def test_a_split_on_one_date_is_told_without_a_verdict(make_market: MakeMarket) -> None:
    own = make_market()
    one_date = replace(own, time=(own.time - own.time.min()) // 1000)
    scores, _ = scored(one_date, Split.TEST)
    head = report.headline("crypto", scores, is_synthetic=False)
    text = " ".join((head.text, *head.details))
    assert "cannot be judged on so few dates" in head.text
    assert not head.is_good
    for word in ("nan", "None", "interval", "better than every rival"):
        assert word not in text


def test_a_sealed_test_is_said_and_validation_speaks(paths: RunPaths) -> None:
    fill(paths, is_sealed=True)
    words = Page(build_report(paths).read_text()).words
    assert "On the validation bars of 6 assets" in words
    assert "on which the best step was chosen: that flatters. The test is sealed." in words
    assert "on the test" not in words
    assert "validation bars," in words


def test_bands_are_drawn_around_the_previous_close_by_simple_returns(
    results_of_run: SplitScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}

    def fill_between(_: object, time: object, low: np.ndarray, high: np.ndarray, **style: object) -> None:
        drawn[str(style["label"])] = (low, high)

    monkeypatch.setattr("matplotlib.axes.Axes.fill_between", fill_between)
    monkeypatch.setattr("stockpred.tasks.next_token.figures.legend_above", lambda axes: None)
    _, table = usual_scores(Split.TEST)
    rows = table[table["symbol"] == "A1"].tail(20)
    figures.forecast_fan("A1", rows)
    np.testing.assert_allclose(drawn["90 %"][0], rows["previous_close"] * (1.0 + rows["q05"]))
    np.testing.assert_allclose(drawn["50 %"][1], rows["previous_close"] * (1.0 + rows["q75"]))


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (950, "950"),
        (8_449, "8.4k"),
        (9_960, "10k"),
        (561_664, "562k"),
        (4_950_000, "4.95M"),
        (88_100_000, "88.1M"),
        (123_456_789, "123M"),
    ],
)
def test_parameter_counts_are_said_as_people_say_them(count: int, told: str) -> None:
    assert parameter_count(count) == told


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert signed(-0.0004, 3) == "0.000"
    assert signed(-1234.5, 1) == "\u22121,234.5"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.7234, "5.723"),
        (45.688, "45.69"),
        (1202.4, "1,202"),
        (0.12346, "0.123"),
        (0.00012344, "0.0001234"),
        (-0.05, "\u22120.05000"),
        (0.0, "0.000"),
        (None, "\u2013"),
    ],
)
def test_a_number_of_any_size_keeps_its_significant_digits(value: float | None, text: str) -> None:
    assert significant(value) == text


def test_the_training_log_sums_up_each_epoch(paths: RunPaths) -> None:
    records.write_rows(
        paths.metrics,
        [
            {"step": 5, "epoch": 0.5, "loss": {"model": 4.0}, "lr": 0.1},
            {"step": 10, "epoch": 1.0, "loss": {"model": 2.0}, "lr": 0.2, "validation": {"nats": 2.5}},
            {"step": 15, "epoch": 1.5, "loss": {"model": 1.0}, "lr": 0.1},
        ],
    )
    curves.write_training_log(paths)
    assert records.read_json(paths.training_log)["epochs"] == [
        {"epoch": 1, "last_step": 10, "lr": 0.2, "loss": {"model": 3.0}, "validation": {"nats": 2.5}},
        {"epoch": 2, "last_step": 15, "lr": 0.1, "loss": {"model": 1.0}, "validation": None},
    ]


def test_example_assets_follow_the_universe_and_take_categories_in_turn(
    paths: RunPaths,
) -> None:
    fill(paths, replace(market(num_assets=6), assets=("Z", "B", "Y", "A", "X", "C")))
    headings = re.findall(r"<h3>(.*?)</h3>", build_report(paths).read_text())
    assert [name for name in headings if len(name) == 1] == ["Z", "B", "Y", "A", "X"]
