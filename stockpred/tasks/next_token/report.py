"""The next-token part of a run's report: tokens and their rivals, gains, bands around the next close."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from stockpred.config.next_token import NextTokenExperiment
from stockpred.report.elements import (
    Cell,
    Headline,
    Picture,
    Section,
    Table,
    TableRow,
    Tile,
    heads,
    table_row,
)
from stockpred.report.format import (
    interval,
    number,
    p_value,
    parameter_count,
    percent,
    share_cell,
    signed,
    with_sign,
)
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import TaskReport, TestedPart, read_or_note
from stockpred.tasks.next_token import figures
from stockpred.tasks.next_token import results as results_file
from stockpred.tasks.next_token.features import to_candles
from stockpred.tasks.next_token.results import CategoryScores, NextTokenResults, TokenScores
from stockpred.tasks.next_token.tokenizer import Tokenizer

PREDICTIONS = (
    *("symbol", "category", "time", "nll", "rival_nll", "realised_return", "close", "previous_close"),
    *("q05", "q25", "q75", "q95"),
)
"""The columns of ``predictions.parquet`` that are drawn."""
_NUM_FANS = 5
_BARS_PER_FAN = 90
_NUM_TOKENS = 14


def read(files: RunFiles) -> TaskReport:
    """Make the task's report from the run's results, predictions and tokenizer."""
    notes: list[str] = []
    results = read_or_note(files.paths.test_results, results_file.read, notes)
    predictions = read_or_note(files.paths.predictions, _predictions, notes)
    tokenizer = read_or_note(files.paths.tokenizer, Tokenizer.load, notes)
    return TaskReport(
        tested=_tested(files, results, predictions) if results else None,
        training_pictures=_token_pictures(tokenizer) if tokenizer else (),
        model_facts=_model_facts(files),
        notes=tuple(notes),
    )


def _tested(files: RunFiles, results: NextTokenResults, predictions: pd.DataFrame | None) -> TestedPart:
    return TestedPart(
        results.evaluated,
        headline(files.case, results, is_synthetic=files.is_synthetic),
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


def headline(case: str, results: NextTokenResults, *, is_synthetic: bool) -> Headline:
    """Say whether the model beats its rivals on the test bars, and by how much."""
    evaluated = results.evaluated
    bars = "synthetic bars" if is_synthetic else "bars"
    text = (
        f"On the {bars} of {results.num_assets} assets (case {case}), {evaluated.model} with "
        f"{parameter_count(evaluated.num_parameters)} parameters {_against_tokens(results)}, "
        f"{_against_last_value(results)}."
    )
    scored = (
        f"Scored once on {results.num_bars:,} test bars from {results.first_time} to {results.last_time}, "
        "which neither training nor the choice of the best step has seen."
    )
    return Headline(
        text, (scored, _about_close(results), _about_distribution(results)), results.beats_token_rivals
    )


def _against_tokens(results: NextTokenResults) -> str:
    rival = f"the better of unigram and bigram (here the {results.best_token_rival})"
    gain, size = results.nats_difference, f"{signed(abs(results.gain), 3)} nats per bar"
    if gain is None:
        lead = "ahead" if results.gain > 0.0 else "behind"
        return f"cannot be judged against {rival}: it is {size} {lead} on one date, which gives no interval"
    if results.beats_token_rivals:
        return f"beats {rival} by {size} (95\u00a0% interval {interval(gain, negated=True)})"
    if results.loses_to_token_rival:
        return f"is worse than {rival} by {size} (95\u00a0% interval {interval(gain)})"
    spread = f"(95\u00a0% interval {interval(gain, negated=True)})"
    return (
        f"does not beat {rival}: its gain of {signed(results.gain, 3)} nats per bar is within noise {spread}"
    )


def _against_last_value(results: NextTokenResults) -> str:
    joint = "but" if results.beats_token_rivals else "and"
    if results.num_dates < 2:
        return f"{joint} its expected close cannot be judged against the last value"
    if results.beats_last_value:
        return f"{'and' if results.beats_token_rivals else 'but'} its expected close beats the last value"
    if results.loses_to_last_value:
        return f"{joint} its expected close is worse than the last value"
    return f"{joint} its expected close does not beat the last value"


def _about_close(results: NextTokenResults) -> str:
    versus, skill = results.model.versus_last_value, results.model.skill
    if skill is None or (versus is None and results.num_dates > 1):
        return "Its expected close is the last close."
    return (
        f"Next close: skill {percent(skill, 2)}\u00a0% in squared error against the last value "
        f"(Diebold-Mariano p value {p_value(versus)})."
    )


def _about_distribution(results: NextTokenResults) -> str:
    model, rival = results.model, results.rival(results.best_crps_rival)
    gain = results.crps_bp_difference
    if results.beats_crps_rival:
        word = "better than"
    elif results.loses_to_crps_rival:
        word = "worse than"
    else:
        word = "not distinguishable from"
    spread = f" (95\u00a0% interval of the difference {interval(gain, 2)})" if gain else ""
    return (
        f"Distribution of the next return: {word} the best rival, {rival.label}; CRPS "
        f"{number(model.crps_bp, 1)} against {number(rival.crps_bp, 1)} bp{spread}."
    )


def tiles(results: NextTokenResults) -> tuple[Tile, ...]:
    model = results.model
    token_rival, crps_rival = results.rival(results.best_token_rival), results.rival(results.best_crps_rival)
    found = [
        Tile(
            f"Gain over {token_rival.label.lower()}",
            f"{with_sign(results.gain, 3)} nats",
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
        found.append(Tile("RankIC across assets", with_sign(ic.mean, 4), context))
    return tuple(found)


def comparison(results: NextTokenResults) -> Section:
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
    rows = [_score_row(results.model, is_model=True), *(_score_row(rival) for rival in results.rivals)]
    return Section(
        "Model and rivals",
        f"Every row is scored on the same {results.num_bars:,} bars. Nats: cross-entropy of the next token. "
        "Skill: share of the last value's squared error that is saved; DM p: Diebold-Mariano test of it with "
        "Newey-West errors by date. Direction: right signs, zero returns left out, with the 95 % interval by "
        "date. In 50, 80, 90 %: outcomes inside the central interval of that probability.",
        tables=(Table(columns, tuple(rows)),),
        remarks=tuple(_information(results)),
    )


def gains(results: NextTokenResults, predictions: pd.DataFrame | None) -> Section:
    """Show where the gain in nats comes from: categories, time, assets."""
    rival = results.rival(results.best_token_rival).label.lower()
    tables: tuple[Table, ...] = ()
    if len(results.categories) > 1:
        columns = heads(
            "category", "assets", "bars", "nats / bar", rival, "gain", "CRPS, bp", "EWMA, bp", "skill, %",
            "direction, %", "in 90 %", text_columns=("category",),
        )  # fmt: skip
        tables = (Table(columns, tuple(_category_row(category) for category in results.categories)),)
    return Section(
        "Where the gain comes from",
        f"Gain: nats per bar below the {rival}, with its 95 % interval, which takes days whole because "
        "assets move together.",
        tables=tables,
        pictures=_gain_pictures(predictions) if predictions is not None else (),
    )


def forecasts(results: NextTokenResults, predictions: pd.DataFrame | None) -> Section:
    return Section(
        "Forecasts of the next close",
        "Each band was forecast one bar before the close that it is drawn under. Half of the closes should "
        "lie in the dark band, nine in ten in the light one.",
        pictures=(
            *calibration(results),
            *(_fans(predictions) if predictions is not None else ()),
        ),
    )


def _score_row(scores: TokenScores, *, is_model: bool = False) -> TableRow:
    coverage = scores.coverage or {}
    return table_row(
        [
            scores.label,
            number(scores.nats, 3),
            number(scores.crps_bp, 1),
            number(scores.mae_bp, 1),
            percent(scores.skill, 2),
            p_value(scores.versus_last_value),
            share_cell(scores.direction),
            *(percent(coverage.get(band)) for band in ("50", "80", "90")),
        ],
        is_model=is_model,
    )


def _category_row(scores: CategoryScores) -> TableRow:
    return table_row(
        [
            scores.category,
            f"{scores.num_assets:,}",
            f"{scores.num_bars:,}",
            number(scores.nats, 3),
            number(scores.rival_nats, 3),
            Cell(with_sign(scores.gain, 3), interval(scores.nats_difference, negated=True)),
            number(scores.crps_bp, 1),
            number(scores.ewma_crps_bp, 1),
            percent(scores.skill, 2),
            share_cell(scores.direction),
            percent(scores.coverage_90),
        ]
    )


def _information(results: NextTokenResults) -> list[str]:
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


def calibration(results: NextTokenResults) -> tuple[Picture, ...]:
    model, rival = results.model, results.rival(results.best_crps_rival)
    if model.coverage_curve is None:
        return ()
    beside = None if rival.coverage_curve is None else (rival.label, np.asarray(rival.coverage_curve))
    svg = figures.coverage_curve(
        np.asarray(results.curve_levels),
        (model.label, np.asarray(model.coverage_curve)),
        beside,
    )
    return (Picture("Calibration", "Below the diagonal: bands too narrow. Above: too wide.", svg),)


def _gain_pictures(predictions: pd.DataFrame) -> tuple[Picture, ...]:
    gain = predictions["rival_nll"] - predictions["nll"]
    by_time = gain.set_axis(pd.DatetimeIndex(predictions["time"])).sort_index(kind="stable")
    by_asset = gain.groupby(predictions["symbol"].astype(str)).mean()
    return (
        Picture(
            "Over time", "Mean gain in each calendar period of the test.", figures.gain_over_time(by_time)
        ),
        Picture("By asset", "Mean gain on each asset's test bars.", figures.gain_by_asset(by_asset)),
    )


def _fans(predictions: pd.DataFrame) -> tuple[Picture, ...]:
    """Draw the last test bars of a few assets, taking the categories in turn."""
    pictures = []
    for symbol in _chosen(predictions):
        bars = predictions[predictions["symbol"] == symbol].sort_values("time", kind="stable")
        drawn = bars.tail(_BARS_PER_FAN)
        is_inside = (drawn["realised_return"] >= drawn["q05"]) & (drawn["realised_return"] <= drawn["q95"])
        caption = (
            f"{drawn['category'].iloc[0]}; the last {len(drawn)} test bars, "
            f"{percent(is_inside.mean(), 0)} % of them inside the 90 % band."
        )
        pictures.append(Picture(symbol, caption, figures.forecast_fan(symbol, drawn)))
    return tuple(pictures)


def _token_pictures(tokenizer: Tokenizer) -> tuple[Picture, ...]:
    """Draw a few tokens across the vocabulary, evenly spaced by how often training bars fall on them."""
    by_return = np.argsort(tokenizer.close_return_z, kind="stable")
    share = np.cumsum(np.exp(tokenizer.log_unigram[by_return].astype(np.float64)))
    levels = (np.arange(_NUM_TOKENS) + 0.5) / _NUM_TOKENS
    chosen = by_return[np.minimum(np.searchsorted(share, levels), len(share) - 1)]
    candles = to_candles(tokenizer.decode(chosen), np.ones(len(chosen)), np.ones(len(chosen)))
    prices = np.log(np.stack([candles[name] for name in ("open", "high", "low", "close")], axis=1))
    caption = f"{len(chosen)} of {tokenizer.vocab_size:,} tokens from falls to rises, spread as bars are."
    return (Picture("What tokens stand for", caption, figures.token_candles(list(chosen), prices)),)


def _chosen(predictions: pd.DataFrame) -> list[str]:
    """Return assets in the universe's order, categories in turn; those with a short history are left out."""
    first = predictions[["symbol", "category"]].drop_duplicates().sort_values("symbol", kind="stable")
    first = first.astype(str).set_index("symbol")
    num_bars = predictions["symbol"].astype(str).value_counts()
    first = first[num_bars.reindex(first.index) >= num_bars.max() / 2]
    turn = first.groupby("category", sort=False).cumcount()
    return [str(symbol) for symbol in turn.sort_values(kind="stable").index[:_NUM_FANS]]
