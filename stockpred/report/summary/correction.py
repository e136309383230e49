"""Holm's correction over all runs that were tested on the bars of a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hpc.base import text
from stockpred.report.summary.gather import Gathered, R, TestedRun
from stockpred.score import inference
from stockpred.score.inference import Estimate

LEVEL = 0.05


def compared(gathered: Gathered[R], comparison: Callable[[R], Estimate | None]) -> tuple[TestedRun[R], ...]:
    """Return the runs that were compared with a rival, those too that newer ones have replaced."""
    return tuple(run for run in gathered.tested if comparison(run.results) is not None)


def corrected_p_values(
    runs: Sequence[TestedRun[R]], comparison: Callable[[R], Estimate | None]
) -> dict[Path, float]:
    """Return the corrected p value of each compared run by its directory."""
    found = [(run.paths.root, comparison(run.results)) for run in runs]
    p_values = {root: estimate.p_value for root, estimate in found if estimate is not None}
    return dict(zip(p_values, inference.holm(tuple(p_values.values())), strict=True))


def explanation(num_tests: int) -> Iterator[str]:
    """Say why and how p values are corrected, where there is more than one."""
    if num_tests > 1:
        yield (
            f"Among {num_tests} tested models one may shine by luck. So a model counts only where its "
            "Diebold-Mariano p value stays below 0.05 after Holm's correction: the smallest is multiplied "
            f"by {num_tests}, the next by {num_tests - 1}, and so on. Then even one false claim has a chance "
            "of at most 5\u00a0%."
        )


def counted_tests(gathered: Gathered[R], runs: Sequence[TestedRun[R]]) -> str:
    """Say how many tests of the compared runs the correction counts."""
    shown = {run.paths.root for run in gathered.runs}
    older = sum(run.paths.root not in shown for run in runs)
    replaced = f", {older} of them by runs that newer ones replaced" if older else ""
    return f"all {text.count(len(runs), 'test')} on these bars{replaced}"
