"""The report's chapter for learner next_bar: tokens and their rivals, gains, bands around the next close."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from stockpred.config.next_token import NextTokenExperiment
from stockpred.report.elements import ABSENT, Cell, Line, Section, Table, Tile, heads, line
from stockpred.report.format import direction, interval, number, p_value, percent, plus, signed
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import Chapter, Tested, read_or_note
from stockpred.tasks.next_token import pictures
from stockpred.tasks.next_token import results as results_file
from stockpred.tasks.next_token.report_verdict import verdict
from stockpred.tasks.next_token.results import CategoryScores, Scores, TestResults
from stockpred.tasks.next_token.tokenizer import Tokenizer

PREDICTIONS = (
    *("symbol", "category", "time", "nll", "rival_nll", "realised_return", "close", "previous_close"),
    *("q05", "q25", "q75", "q95"),
)
"""The columns of ``predictions.parquet`` that are drawn."""


def read(files: RunFiles) -> Chapter:
    """Make the chapter from the run's results, predictions and tokenizer."""
    notes: list[str] = []
    results = read_or_note(files.paths.test_results, results_file.read, notes)
    predictions = read_or_note(files.paths.predictions, _predictions, notes)
    tokenizer = read_or_note(files.paths.tokenizer, Tokenizer.load, notes)
    return Chapter(
        tested=_tested(files, results, predictions) if results else None,
        training_pictures=pictures.tokens(tokenizer) if tokenizer else (),
        model_facts=_model_facts(files),
        notes=tuple(notes),
    )


def _tested(files: RunFiles, results: TestResults, predictions: pd.DataFrame | None) -> Tested:
    return Tested(
        results.evaluated,
        verdict(files.case, results, is_synthetic=files.is_synthetic),
        tiles(results),
        (comparison(results), gains(results, predictions), forecasts(results, predictions)),
    )


def _model_facts(files: RunFiles) -> tuple[tuple[str, str], ...]:
    experiment = files.experiment
    if not isinstance(experiment, NextTokenExperiment):
        return ()
    return (("vocabulary", f"{experiment.tokenizer.vocab_size:,} tokens"),)


def _predictions(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path, columns=list(PREDICTIONS))


def tiles(results: TestResults) -> tuple[Tile, ...]:
    model, gain = results.model, results.nats_difference
    token_rival, crps_rival = results.rival(results.best_token_rival), results.rival(results.best_crps_rival)
    found = [
        Tile(
            f"Gain over {token_rival.label.lower()}",
            f"{plus(-gain.mean, 3)} nats",
            f"per bar; {number(model.nats, 3)} against {number(token_rival.nats, 3)}",
        ),
        Tile(
            "CRPS of the next return",
            f"{number(model.crps_bp, 1)} bp",
            f"{crps_rival.label} {number(crps_rival.crps_bp, 1)} bp",
        ),
    ]
    if model.coverage:
        beside = f"; {crps_rival.label} {percent(crps_rival.coverage['90'])} %" if crps_rival.coverage else ""
        found.append(Tile("90 % band holds", f"{percent(model.coverage['90'])} %", f"of outcomes{beside}"))
    if results.rank_ic:
        ic = results.rank_ic
        context = f"Newey-West t {signed(ic.t, 1)}, {ic.num_dates:,} dates"
        found.append(Tile("RankIC across assets", plus(ic.mean, 4), context))
    return tuple(found)


def comparison(results: TestResults) -> Section:
    """Lay out the model and its rivals, all on the same bars."""
    columns = heads(
        "",
        "nats / bar",
        "CRPS, bp",
        "MAE, bp",
        "skill, %",
        "DM p",
        "direction, %",
        "in 50 %",
        "in 80 %",
        "in 90 %",
    )
    rows = [_score_line(results.model, is_ours=True), *(_score_line(rival) for rival in results.rivals)]
    return Section(
        "Model and rivals",
        f"Every row is scored on the same {results.num_bars:,} bars. Nats: cross-entropy of the next token. "
        "Skill: share of the last value's squared error that is saved; DM p: Diebold-Mariano test of it with "
        "Newey-West errors by date. Direction: right signs, zero returns left out, with the 95 % interval by "
        "date. In 50, 80, 90 %: outcomes inside the central interval of that probability.",
        tables=(Table(columns, tuple(rows)),),
        remarks=tuple(_information(results)),
    )


def gains(results: TestResults, predictions: pd.DataFrame | None) -> Section:
    """Show where the gain in nats comes from: categories, time, assets."""
    rival = results.rival(results.best_token_rival).label.lower()
    tables: tuple[Table, ...] = ()
    if len(results.categories) > 1:
        columns = heads(
            "category", "assets", "bars", "nats / bar", rival, "gain", "CRPS, bp", "EWMA, bp", "skill, %",
            "direction, %", "in 90 %", words=("category",),
        )  # fmt: skip
        tables = (Table(columns, tuple(_category_line(category) for category in results.categories)),)
    return Section(
        "Where the gain comes from",
        f"Gain: nats per bar below the {rival}, with its 95 % interval, which takes days whole because "
        "assets move together.",
        tables=tables,
        figures=pictures.gains(predictions) if predictions is not None else (),
    )


def forecasts(results: TestResults, predictions: pd.DataFrame | None) -> Section:
    return Section(
        "Forecasts of the next close",
        "Each band was forecast one bar before the close that it is drawn under. Half of the closes should "
        "lie in the dark band, nine in ten in the light one.",
        figures=(
            *pictures.calibration(results),
            *(pictures.fans(predictions) if predictions is not None else ()),
        ),
    )


def _score_line(scores: Scores, *, is_ours: bool = False) -> Line:
    versus = scores.versus_last_value
    coverage = scores.coverage or {}
    return line(
        [
            scores.label,
            number(scores.nats, 3),
            number(scores.crps_bp, 1),
            number(scores.mae_bp, 1),
            ABSENT if scores.skill is None else signed(100 * scores.skill, 2),
            p_value(versus),
            direction(scores.direction),
            *(percent(coverage.get(band)) for band in ("50", "80", "90")),
        ],
        is_ours=is_ours,
    )


def _category_line(scores: CategoryScores) -> Line:
    return line(
        [
            scores.category,
            f"{scores.num_assets:,}",
            f"{scores.num_bars:,}",
            number(scores.nats, 3),
            number(scores.rival_nats, 3),
            Cell(plus(-scores.nats_difference.mean, 3), interval(scores.nats_difference, flipped=True)),
            number(scores.crps_bp, 1),
            number(scores.ewma_crps_bp, 1),
            ABSENT if scores.skill is None else signed(100 * scores.skill, 2),
            direction(scores.direction),
            percent(scores.coverage_90),
        ]
    )


def _information(results: TestResults) -> list[str]:
    fitted = (
        "Rivals are fitted on the training period: the unigram with "
        f"{_strength(results.unigram_alpha)} added to every count, the bigram with prior strength "
        f"{_strength(results.bigram_tau)}, both chosen by the likelihood of validation tokens."
    )
    if results.ic is None or results.rank_ic is None:
        return [fitted, "No cross-sectional IC: too few assets share a date."]
    ic, rank_ic = results.ic, results.rank_ic
    section = (
        f"Daily cross-section over {rank_ic.num_dates:,} dates: "
        f"IC {signed(ic.mean, 4)} (Newey-West t {signed(ic.t, 1)}), "
        f"RankIC {signed(rank_ic.mean, 4)} (t {signed(rank_ic.t, 1)}, RankICIR {signed(rank_ic.ratio, 3)})."
    )
    return [section, fitted]


def _strength(value: float) -> str:
    return f"{value:,.0f}" if value >= 10.0 else f"{value:.2g}"
