"""The sections of the page in reading order: each a pure function from a run's files to a ``Section``."""

from __future__ import annotations

from collections.abc import Sequence

from hpc import text
from hpc.errors import ExitCode
from hpc.ledger import Attempt
from stockpred.experiments.next_bar import NextBarExperiment
from stockpred.metrics import Estimate, Proportion
from stockpred.report import curves, pictures
from stockpred.report.parts import ABSENT, Alarm, Cell, Fold, Line, Section, Table, Tile, heads, line
from stockpred.report.runfiles import RunFiles
from stockpred.report.verdict import interval, parameters, signed
from stockpred.results.next_bar import CategoryScores, Scores, TestResults

_CALM = (None, ExitCode.OK, ExitCode.CONTINUE_LATER)
SYNTHETIC_WARNING = Alarm(
    "These bars are synthetic.",
    "They were made by a simulation. Nothing here says anything about a real market.",
)


def alarms(files: RunFiles) -> tuple[Alarm, ...]:
    """Return what must be read before any figure: synthetic bars, files left out, the run's warnings."""
    synthetic = (SYNTHETIC_WARNING,) if files.is_synthetic else ()
    warnings = (*files.notes, *files.history.warnings)
    return (*synthetic, *(Alarm("Warning.", _sentence(warning)) for warning in warnings))


def tiles(results: TestResults) -> tuple[Tile, ...]:
    model, gain = results.model, results.nats_difference
    token_rival, crps_rival = results.rival(results.best_token_rival), results.rival(results.best_crps_rival)
    found = [
        Tile(
            f"Gain over {token_rival.label.lower()}",
            f"{_plus(-gain.mean, 3)} nats",
            f"per bar; {_number(model.nats, 3)} against {_number(token_rival.nats, 3)}",
        ),
        Tile(
            "CRPS of the next return",
            f"{_number(model.crps_bp, 1)} bp",
            f"{crps_rival.label} {_number(crps_rival.crps_bp, 1)} bp",
        ),
    ]
    if model.coverage:
        beside = (
            f"; {crps_rival.label} {_percent(crps_rival.coverage['90'])} %" if crps_rival.coverage else ""
        )
        found.append(Tile("90 % band holds", f"{_percent(model.coverage['90'])} %", f"of outcomes{beside}"))
    if results.rank_ic:
        ic = results.rank_ic
        context = f"Newey-West t {signed(ic.t, 1)}, {ic.num_dates:,} dates"
        found.append(Tile("RankIC across assets", _plus(ic.mean, 4), context))
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


def gains(files: RunFiles, results: TestResults) -> Section:
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
        figures=pictures.gains(files.predictions) if files.predictions is not None else (),
    )


def forecasts(files: RunFiles, results: TestResults) -> Section:
    return Section(
        "Forecasts of the next close",
        "Each band was forecast one bar before the close that it is drawn under. Half of the closes should "
        "lie in the dark band, nine in ten in the light one.",
        figures=(
            *pictures.calibration(results),
            *(pictures.fans(files.predictions) if files.predictions is not None else ()),
        ),
    )


def training(files: RunFiles) -> Section:
    rows = files.metrics
    resumed = [
        (attempt.number, attempt.first_step) for attempt in files.history.attempts if attempt.first_step
    ]
    found = [("steps", f"{rows[-1]['step']:,}"), ("epochs", f"{rows[-1].get('epoch', 0.0):.2f}")]
    if files.best_step is not None:
        found.append(("best step on validation", f"{files.best_step:,}"))
    return Section(
        "Training",
        facts=tuple(found),
        figures=(
            *pictures.learning(curves.losses(rows), curves.validations(rows), resumed, files.best_step),
            *(pictures.tokens(files.tokenizer) if files.tokenizer else ()),
        ),
    )


def attempts(files: RunFiles) -> Section:
    """Tell every start of the run: where, how far, why it ended, how long it ran and waited."""
    columns = heads(
        "attempt", "job", "nodes", "from step", "to step", "ended because", "ran for", "waited before",
        words=("attempt", "job", "nodes", "ended because"),
    )  # fmt: skip
    told = files.history.attempts
    before: Sequence[Attempt | None] = (None, *told[:-1])
    running = "trained to the end" if files.results else "has not ended"
    rows = tuple(_attempt_line(*pair, running) for pair in zip(told, before, strict=True))
    number = text.count(len(told), "attempt")
    return Section("Attempts", f"The run took {number}.", tables=(Table(columns, rows, is_words=True),))


def model(files: RunFiles) -> Section:
    """Describe what was trained; the parameter count is the computed one."""
    found: list[tuple[str, str]] = []
    if files.results:
        evaluated = files.results.evaluated
        found.append(("parameters", f"{evaluated.num_parameters:,} ({parameters(evaluated.num_parameters)})"))
    if files.experiment:
        experiment = files.experiment
        found += [(name, str(value)) for name, value in experiment.model.model_dump().items()]
        found.append(("learner", experiment.learner.name))
        if isinstance(experiment, NextBarExperiment):
            found.append(("vocabulary", f"{experiment.tokenizer.vocab_size:,} tokens"))
    folds = (Fold("config.yaml", files.config_text.rstrip()),) if files.config_text else ()
    return Section("Model", facts=tuple(found), folds=folds)


def provenance(files: RunFiles) -> Section:
    known = files.provenance
    changes = known.get("uncommitted_changes")
    found = [("commit", str(known.get("commit") or "not under version control"))]
    if changes:
        found.append(
            ("uncommitted changes", f"{len(str(changes).splitlines()):,} lines of diff, in provenance.json")
        )
    found += [(name, str(known[name])) for name in ("python", "system", "host") if known.get(name)]
    packages = known.get("packages")
    if isinstance(packages, dict):
        found.append(
            ("packages", ", ".join(f"{name} {version}" for name, version in sorted(packages.items())))
        )
    return Section("Provenance", facts=tuple(found))


def _score_line(scores: Scores, *, is_ours: bool = False) -> Line:
    versus = scores.versus_last_value
    coverage = scores.coverage or {}
    return line(
        [
            scores.label,
            _number(scores.nats, 3),
            _number(scores.crps_bp, 1),
            _number(scores.mae_bp, 1),
            ABSENT if scores.skill is None else signed(100 * scores.skill, 2),
            _p_value(versus),
            _direction(scores.direction),
            *(_percent(coverage.get(band)) for band in ("50", "80", "90")),
        ],
        is_ours=is_ours,
    )


def _category_line(scores: CategoryScores) -> Line:
    return line(
        [
            scores.category,
            f"{scores.num_assets:,}",
            f"{scores.num_bars:,}",
            _number(scores.nats, 3),
            _number(scores.rival_nats, 3),
            Cell(_plus(-scores.nats_difference.mean, 3), interval(scores.nats_difference, flipped=True)),
            _number(scores.crps_bp, 1),
            _number(scores.ewma_crps_bp, 1),
            ABSENT if scores.skill is None else signed(100 * scores.skill, 2),
            _direction(scores.direction),
            _percent(scores.coverage_90),
        ]
    )


def _attempt_line(attempt: Attempt, previous: Attempt | None, running: str) -> Line:
    ran = None if attempt.ended is None else attempt.ended - attempt.started
    waited = None if previous is None or previous.ended is None else attempt.started - previous.ended
    ending = attempt.cause or (running if attempt.ended is None else "unknown")
    return line(
        [
            str(attempt.number),
            attempt.job_id,
            ", ".join(attempt.nodes) or ABSENT,
            f"{attempt.first_step or 0:,}",
            ABSENT if attempt.committed_step is None else f"{attempt.committed_step:,}",
            Cell(ending, "" if attempt.exit_code in _CALM else f"exit {attempt.exit_code}"),
            ABSENT if ran is None else text.duration(ran),
            ABSENT if waited is None else text.duration(max(waited, 0.0)),
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


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def _number(value: float | None, digits: int) -> str:
    return ABSENT if value is None else signed(value, digits)


def _plus(value: float, digits: int) -> str:
    told = signed(value, digits)
    return f"+{told}" if value > 0.0 and float(told.replace(",", "")) != 0.0 else told


def _strength(value: float) -> str:
    return f"{value:,.0f}" if value >= 10.0 else f"{value:.2g}"


def _percent(share: float | None) -> str:
    return ABSENT if share is None else f"{100 * share:.1f}"


def _p_value(estimate: Estimate | None) -> str:
    if estimate is None:
        return ABSENT
    return "< 0.001" if estimate.p_value < 0.001 else f"{estimate.p_value:.3f}"


def _direction(proportion: Proportion | None) -> str | Cell:
    if proportion is None:
        return ABSENT
    return Cell(f"{100 * proportion.share:.1f}", f"{100 * proportion.low:.1f} to {100 * proportion.high:.1f}")
