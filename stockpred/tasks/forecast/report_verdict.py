"""What a regressor's test means, in plain sentences: pure text from figures."""

from __future__ import annotations

from stockpred.report.elements import Verdict
from stockpred.report.format import parameters, signed
from stockpred.score.metrics import Estimate
from stockpred.tasks.forecast.results import BETTER, UNDECIDED, WORSE, RegressionResults

CLAIMS = {
    BETTER: "beats the last close",
    WORSE: "is worse than the last close",
    UNDECIDED: "has no skill against the last close that can be told from zero",
}


def verdict(results: RegressionResults, *, is_synthetic: bool) -> Verdict:
    """Say whether the model forecasts the next close better than the last close does."""
    evaluated, model = results.evaluated, results.model
    test = f"{results.num_bars:,} {'synthetic ' if is_synthetic else ''}test {results.bars}"
    said = skill(model.skill, model.skill_interval)
    headline = (
        f"On {test} of {results.symbol}, {evaluated.model} with {parameters(evaluated.num_parameters)} "
        f"parameters {CLAIMS[model.skill_in_words]}: {said}."
    )
    details = (
        f"Scored once on the {results.bars} from {results.first_time} to {results.last_time}, which neither "
        "training nor the choice of the best step has seen.",
        "Skill is 1 \u2212 MSE / MSE of the last close: 0\u00a0% is what doing nothing gives, 100\u00a0% is "
        "perfect.",
        *_about_drift(results),
        *_about_direction(results),
    )
    return Verdict(headline, details, model.skill_in_words == BETTER)


def skill(value: float | None, interval: Estimate | None) -> str:
    """Return a skill in percent with its interval."""
    if value is None:
        return "the last close is never off, so there is nothing to win"
    told = f"skill {signed(100 * value, 2)}\u00a0%"
    return f"{told} (95\u00a0% interval {in_percent(interval)}\u00a0%)" if interval else told


def in_percent(interval: Estimate | None) -> str:
    """Return the two ends of a skill's interval in percent, without the sign of percent."""
    if interval is None:
        return ""
    return f"{signed(100 * interval.low, 2)} to {signed(100 * interval.high, 2)}"


def r2_remark(results: RegressionResults) -> str:
    """Say what R2 on prices is worth: it is high for whoever repeats the last close."""
    still = results.rival("persistence").r2_price
    given = "is not defined here" if still is None else f"is {signed(still, 4)} here for doing nothing"
    return (
        f"R\u00b2 on prices {given}: the last close alone is that close to the next one. A high R\u00b2 on "
        "prices is therefore no achievement; R\u00b2 on returns and the skill tell more."
    )


def _about_drift(results: RegressionResults) -> tuple[str, ...]:
    """Say what the mean return of the training period earns: a model may have learnt no more than that."""
    drift = results.rival("drift")
    if drift.skill is None:
        return ()
    said = skill(drift.skill, drift.skill_interval)
    return (f"The mean training return alone, added to each last close, has {said}.",)


def _about_direction(results: RegressionResults) -> tuple[str, ...]:
    called, up = results.model.direction, results.rival("always_up").direction
    if called is None or up is None:
        return ()
    return (
        f"Direction: right on {100 * called.share:.1f}\u00a0% of the {results.bars} that moved (95\u00a0% "
        f"interval {100 * called.low:.1f} to {100 * called.high:.1f}\u00a0%); always saying up is right on "
        f"{100 * up.share:.1f}\u00a0%.",
    )
