"""What every task's report shows of its scores: claims, and the table of the model beside its rivals.

Categories come first and all assets together last, the test before the validation on which choices were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hpc.run.paths import RunPaths
from stockpred.data.splits import Split
from stockpred.report.elements import ABSENT, Cell, Section, Table, TableRow, heads, table_row
from stockpred.report.format import (
    interval,
    number,
    p_value,
    percent,
    percent_interval,
    share_cell,
    signed,
    significant,
    with_sign,
)
from stockpred.report.task_part import read_or_note
from stockpred.score import results
from stockpred.score.claims import Claim, Verdict
from stockpred.score.correlation import Correlation
from stockpred.score.inference import MIN_DATES
from stockpred.score.results import ForecasterScores, GroupScores, SplitScores

IN_WORDS = {
    Verdict.BETTER: "better than every rival",
    Verdict.WORSE: "worse than a rival",
    Verdict.UNDECIDED: "not better than every rival",
    Verdict.TOO_FEW_DATES: f"no claim: fewer than {MIN_DATES} dates",
}
MEASURES = {
    "crps_bp": "CRPS of the return, bp",
    "log_loss": "log loss of the return, nats",
    "squared_error": "squared error of the return, %\u00b2",
    "nats": "cross-entropy of the token, nats",
    "rank_ic": "RankIC across assets",
}
"""How the measures of claims are called, in the order in which they matter."""
ABOUT_CLAIMS = (
    "A claim needs the whole 95 % interval of the mean difference from every rival of its kind to lie on the "
    "model's side. Hardest: the rival that comes closest. Intervals and p values take dates whole, by the "
    "equal-weighted cosine estimator with its t distribution."
)


@dataclass(frozen=True)
class Scored:
    """What was scored of a run; ``test`` is None while it is sealed, and where its file cannot be read."""

    validation: SplitScores | None
    test: SplitScores | None
    is_sealed: bool

    @property
    def judged(self) -> SplitScores | None:
        """The split that the headline speaks of."""
        return self.test or self.validation

    @property
    def splits(self) -> tuple[SplitScores, ...]:
        return tuple(scores for scores in (self.test, self.validation) if scores is not None)


def read(paths: RunPaths, notes: list[str]) -> Scored:
    """Read what was scored of a run; note a file that is damaged or of another version, and leave it out."""
    return Scored(
        read_or_note(paths.validation_results, results.read, notes),
        read_or_note(paths.test_results, results.read, notes),
        is_sealed=not paths.test_results.exists(),
    )


def about_split(scores: SplitScores, bars: str, *, is_sealed: bool) -> Iterator[str]:
    """Say which bars a headline speaks of, who had seen them before, and how often."""
    group = scores.pooled
    period = f"{group.num_bars:,} {bars} from {group.first_time} to {group.last_time}"
    if scores.split == Split.VALIDATION.text:
        yield (
            f"Scored on the validation's {period}, on which the best step was chosen: that flatters."
            f"{' The test is sealed.' if is_sealed else ''}"
        )
        return
    yield (f"Scored once on {period}, which neither training nor the choice of the best step has seen.")
    if scores.num_looks is not None and scores.num_looks > 1:
        yield (
            f"This is look {scores.num_looks} at test bars of these assets and dates: multiply its p values "
            f"by {scores.num_looks}."
        )


def claims(scored: Scored) -> Section:
    """Lay out every claim, on the test and on the validation."""
    tables = tuple(_claims_of(scores) for scores in scored.splits)
    return Section("What may be claimed", ABOUT_CLAIMS, tables=tables)


def comparison(scored: Scored, note: str = "") -> Section:
    """Lay out the model and its rivals, group by group, all of a group on the same bars."""
    tables = tuple(table(scores, group) for scores in scored.splits for group in _shown_groups(scores))
    remarks = tuple(_about_rivals(scored))
    return Section("Model and rivals", f"{note} {_legend(scored)}".strip(), tables=tables, remarks=remarks)


def table(scores: SplitScores, group: GroupScores) -> Table:
    """Lay out one group: a row for each forecaster, a column for each thing that the model states."""
    rows = (group.model, *group.rivals)
    columns = [column for column in _COLUMNS if column.value(group.model) is not None]
    title = _title(scores, group)
    names = heads(title, *(column.head for column in columns), text_columns=(title,))
    return Table(names, tuple(_row(row, columns, is_model=row is group.model) for row in rows))


def about_forecasts(scores: ForecasterScores) -> str | None:
    """Say how far the expected returns spread, and whether their sign ever changes."""
    if scores.spread_bp is None:
        return None
    always = f": always {scores.always}" if scores.always else ""
    return f"Its expected returns spread by {significant(scores.spread_bp, 3)} bp around their mean{always}."


def verdict_text(claim: Claim, label_of: Callable[[str], str]) -> str:
    """Return a verdict with the hardest rival and the difference from it, such as for a headline."""
    found = claim.difference
    spread = f"; 95\u00a0% interval {interval(found, 4)}" if found else ""
    size = with_sign(claim.mean_difference, 4)
    return f"{IN_WORDS[claim.verdict]} (hardest: {label_of(claim.hardest)}, difference {size}{spread})"


def _claims_of(scores: SplitScores) -> Table:
    text_columns = (f"on the {scores.split}", "measure", "verdict", "hardest rival")
    columns = heads(*text_columns, "difference", "p", text_columns=text_columns)
    rows = [
        _claim_row(group, claim, is_first=index == 0)
        for group in _shown_groups(scores)
        for index, claim in enumerate(group.claims)
    ]
    return Table(columns, tuple(rows), has_long_text=True)


def _claim_row(group: GroupScores, claim: Claim, *, is_first: bool) -> TableRow:
    label = {rival.name: rival.label for rival in group.rivals}
    return table_row(
        [
            group.name if is_first else "",
            MEASURES[claim.measure],
            IN_WORDS[claim.verdict],
            label[claim.hardest],
            Cell(with_sign(claim.mean_difference, 4), interval(claim.difference, 4)),
            p_value(claim.p_value),
        ],
        is_model=claim.is_better,
    )


def _shown_groups(scores: SplitScores) -> Iterator[GroupScores]:
    """Yield categories, then all together where they are several; unseen assets last."""
    yield from scores.categories
    if len(scores.categories) != 1:
        yield scores.pooled
    yield from scores.unseen


def _title(scores: SplitScores, group: GroupScores) -> str:
    unseen = ", unseen in training" if group in scores.unseen else ""
    return f"{scores.split}, {group.name}{unseen}: {group.num_bars:,} bars"


@dataclass(frozen=True)
class _Column:
    """A column of the comparison: its head, the value that decides whether it is shown, and its cell."""

    head: str
    value: Callable[[ForecasterScores], object]
    cell: Callable[[ForecasterScores], str | Cell]


def _coverage(band: str) -> _Column:
    return _Column(
        f"in {band} %",
        lambda scores: scores.coverage,
        lambda scores: percent((scores.coverage or {}).get(band)),
    )


_COLUMNS = (
    _Column("nats", lambda own: own.nats, lambda own: number(own.nats, 3)),
    _Column("CRPS, bp", lambda own: own.crps_bp, lambda own: number(own.crps_bp, 2)),
    _Column("log loss", lambda own: own.log_loss, lambda own: number(own.log_loss, 4)),
    _Column("MAE, bp", lambda own: own.mae_bp, lambda own: number(own.mae_bp, 1)),
    _Column("skill, %", lambda own: own.skill, lambda own: _skill_cell(own)),
    _Column("spread, bp", lambda own: own.spread_bp, lambda own: significant(own.spread_bp, 3)),
    _Column("direction, %", lambda own: own.direction, lambda own: share_cell(own.direction)),
    *(_coverage(band) for band in ("50", "80", "90")),
    _Column("RankIC", lambda own: own.rank_ic, lambda own: _correlation_cell(own.rank_ic)),
    _Column("MSE, price", lambda own: own.price, lambda own: _price(own, "mse")),
    _Column("MAE, price", lambda own: own.price, lambda own: _price(own, "mae")),
    _Column(
        "R\u00b2, price",
        lambda own: own.price,
        lambda own: number(own.price.r_squared if own.price else None, 4),
    ),
)


def _row(scores: ForecasterScores, columns: Sequence[_Column], *, is_model: bool) -> TableRow:
    return table_row([scores.label, *(column.cell(scores) for column in columns)], is_model=is_model)


def _skill_cell(scores: ForecasterScores) -> Cell:
    return Cell(percent(scores.skill, 2), percent_interval(scores.skill_interval))


def _correlation_cell(found: Correlation | None) -> Cell:
    return Cell(ABSENT) if found is None else Cell(signed(found.mean, 4), f"t {signed(found.t, 1)}")


def _price(scores: ForecasterScores, name: str) -> str:
    return significant(getattr(scores.price, name) if scores.price else None)


def _legend(scored: Scored) -> str:
    found = scored.judged
    if found is None:
        return ""
    own = found.pooled.model
    parts = {
        "Returns are simple; errors in basis points. Skill: 1 \u2212 MSE / MSE of the last value, with its "
        "95 % interval. Spread: the standard deviation of the expected return. Direction: right signs, "
        "returns of exactly zero left out.": True,
        "Nats: cross-entropy of the next token.": own.nats is not None,
        "Log loss: the negative log density of the return, in nats.": own.log_loss is not None,
        "In 50, 80, 90 %: outcomes inside that central interval.": own.coverage is not None,
        "RankIC: mean over dates, with its Newey-West t.": own.rank_ic is not None,
    }
    return " ".join(part for part, is_shown in parts.items() if is_shown)


def _about_rivals(scored: Scored) -> Iterator[str]:
    found = scored.judged
    if found is None:
        return
    yield "Rivals are fitted on the training period, and their settings chosen on the validation period."
    label = {rival.name: rival.label for rival in found.pooled.rivals}
    fitted = [
        f"{label.get(name, name)}: " + ", ".join(f"{key} {value:.4g}" for key, value in settings.items())
        for name, settings in found.fitted.items()
        if settings
    ]
    if fitted:
        yield "; ".join(fitted) + "."
