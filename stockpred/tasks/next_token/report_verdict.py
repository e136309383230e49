"""What a test of next-bar forecasts means, in plain sentences: pure text from figures."""

from __future__ import annotations

from stockpred.report.elements import Verdict
from stockpred.report.format import interval, parameters, signed
from stockpred.tasks.next_token.results import TestResults


def verdict(case: str, results: TestResults, *, is_synthetic: bool) -> Verdict:
    """Say whether the model beats its rivals on the test bars and by how much; say it as plainly when not."""
    evaluated = results.evaluated
    bars = "synthetic bars" if is_synthetic else "bars"
    headline = (
        f"On the {bars} of {results.num_assets} assets (case {case}), {evaluated.model} with "
        f"{parameters(evaluated.num_parameters)} parameters {_against_tokens(results)}, "
        f"{_against_last_value(results)}."
    )
    scored = (
        f"Scored once on {results.num_bars:,} test bars from {results.first_time} to {results.last_time}, "
        "which neither training nor the choice of the best step has seen."
    )
    return Verdict(
        headline, (scored, _about_close(results), _about_distribution(results)), results.beats_token_rivals
    )


def _against_tokens(results: TestResults) -> str:
    rival = f"the better of unigram and bigram (here the {results.best_token_rival})"
    gain = results.nats_difference
    size = f"{signed(abs(gain.mean), 3)} nats per bar"
    if results.beats_token_rivals:
        return f"beats {rival} by {size} (95\u00a0% interval {interval(gain, flipped=True)})"
    if gain.low > 0.0:
        return f"is worse than {rival} by {size} (95\u00a0% interval {interval(gain)})"
    spread = f"(95\u00a0% interval {interval(gain, flipped=True)})"
    return f"does not beat {rival}: its gain of {signed(-gain.mean, 3)} nats per bar is within noise {spread}"


def _against_last_value(results: TestResults) -> str:
    versus = results.model.versus_last_value
    joint = "but" if results.beats_token_rivals else "and"
    if results.beats_last_value:
        return f"{'and' if results.beats_token_rivals else 'but'} its expected close beats the last value"
    if versus is not None and versus.low > 0.0:
        return f"{joint} its expected close is worse than the last value"
    return f"{joint} its expected close does not beat the last value"


def _about_close(results: TestResults) -> str:
    versus, skill = results.model.versus_last_value, results.model.skill
    if versus is None or skill is None:
        return "Its expected close is the last close."
    return (
        f"Next close: skill {signed(100 * skill, 2)}\u00a0% in squared error against the last value "
        f"(Diebold-Mariano p = {versus.p_value:.2g})."
    )


def _about_distribution(results: TestResults) -> str:
    model, rival = results.model, results.rival(results.best_crps_rival)
    assert model.crps_bp is not None
    assert rival.crps_bp is not None
    gain = results.crps_bp_difference
    if results.beats_crps_rival:
        word = "better than"
    elif gain.low > 0.0:
        word = "worse than"
    else:
        word = "not distinguishable from"
    return (
        f"Distribution of the next return: {word} the best rival, {rival.label}; CRPS {model.crps_bp:.1f} "
        f"against {rival.crps_bp:.1f} bp (95\u00a0% interval of the difference {interval(gain, 2)})."
    )
