"""Cut time into training, validation and test: once, walking forward, or in combinations of groups.

A fold is a matter of dates alone: neither a model nor its context length moves it. Walking forward divides
the last share of time among successive tests, each with the validation right before it and the training
before that (expanding: from the first date on; rolling: of constant length). One test is the usual cut.
Combinatorial folds (Lopez de Prado 2018, chapter 12) cut time into equal groups and test on every choice of
some of them.

A bar belongs to the split in which its whole label lies (``assign``), and an embargo takes labels from the
less held-out side of every boundary; both count each asset's own bars.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from hpc.base.errors import UserError
from stockpred.config.base import DataConfig, Fractions
from stockpred.data.arrays import Ints
from stockpred.data.splits import USED, Split, Splits
from stockpred.data.times import begin_of, iso_date


@dataclass(frozen=True)
class Span:
    """A stretch of time, both ends included, as int64 ns since 1970 UTC."""

    start: int
    end: int


@dataclass(frozen=True)
class Fold:
    """One cut of time; the spans of a split rise and do not touch, and no time lies in two spans."""

    train: tuple[Span, ...]
    validation: tuple[Span, ...]
    test: tuple[Span, ...]

    def spans(self, split: Split) -> tuple[Span, ...]:
        found: tuple[Span, ...] = getattr(self, split.text)
        return found

    def begin(self, split: Split) -> int:
        """Return the first time of a split."""
        return self.spans(split)[0].start

    def end(self, split: Split) -> int:
        """Return the last time of a split."""
        return self.spans(split)[-1].end


def cut(times: Ints, config: DataConfig) -> Fold:
    """Return fold ``data.fold`` of the sorted unique ``times`` of bars.

    Raises UserError where a split would be left without a time.
    """
    if config.folds.kind == "combinatorial":
        return _combinatorial(times, config)
    return _walk_forward(times, config)


def assign(fold: Fold, time: Ints, asset: Ints, *, embargo: int, horizon: int = 1) -> Splits:
    """Return the split [N] of the label that ends at each bar; bars are sorted by asset, then time.

    A label of ``horizon`` bars ends at bar n and begins at bar n - horizon + 1 of the same asset. It belongs
    to a split where all these bars lie in it (purging). Where one split's dates border on another's, an
    asset's ``embargo`` bars next to the boundary, on the less held-out side, lose their label too: whether or
    not it has bars on the other side, which its past must not tell.
    """
    spans = _spans_in_time(fold)
    number = _span_numbers(spans, time)
    split = np.array([Split.OUTSIDE, *(split for _, split in spans)])  # number -1 lies outside
    place = _Places.of(number, asset)
    within, before, after = split[number + 1], split[number], np.r_[split, Split.OUTSIDE][number + 2]
    is_kept = (number >= 0) & (place.num_before >= horizon - 1)
    is_kept &= ~((after > within) & (place.num_after < embargo))
    is_kept &= ~((before > within) & (place.num_before < embargo))
    return np.where(is_kept, within, Split.OUTSIDE).astype(np.int8)


def splits_at(fold: Fold, time: Ints) -> Splits:
    """Return the split [N] that each time lies in, whatever purging and the embargo leave of it."""
    spans = _spans_in_time(fold)
    split = np.array([Split.OUTSIDE, *(split for _, split in spans)])
    return split[_span_numbers(spans, time) + 1].astype(np.int8)


def describe(fold: Fold) -> dict[str, list[dict[str, Any]]]:
    """Return the spans of each split as numbers, and as dates for people."""
    return {
        split.text: [
            {"start": span.start, "end": span.end, "from": _text(span.start), "to": _text(span.end)}
            for span in fold.spans(split)
        ]
        for split in USED
    }


def read(described: Mapping[str, Sequence[Mapping[str, Any]]]) -> Fold:
    """Read a fold back from what ``describe`` returned."""
    return Fold(
        **{
            split.text: tuple(Span(int(span["start"]), int(span["end"])) for span in described[split.text])
            for split in USED
        }
    )


def _text(moment: int) -> str:
    return str(np.datetime64(moment, "ns").astype("datetime64[s]"))


def _walk_forward(times: Ints, config: DataConfig) -> Fold:
    """Return the fold of an expanding or rolling walk; with one fold, the single cut."""
    validation, test = _first_cut(times, config)
    num_train, num_validation = validation, test - validation
    edges = _edges(test, len(times), config.folds.number)
    begin, end = edges[config.fold_number - 1], edges[config.fold_number]
    trained_to = begin - num_validation
    is_rolling = config.folds.kind == "rolling"
    bounds = (trained_to - num_train if is_rolling else 0, trained_to, begin, end)
    if any(later <= earlier for earlier, later in itertools.pairwise(bounds)):
        raise _too_few(times, config)
    spans = ((_span(times, *bound),) for bound in itertools.pairwise(bounds))
    return Fold(*spans)


def _first_cut(times: Ints, config: DataConfig) -> tuple[int, int]:
    """Return the numbers of the times at which the first validation and all the tests begin."""
    if len(config.split) == 3:
        return _by_fractions(len(times), config.split)
    validation, test = (int(np.searchsorted(times, begin_of(first))) for first in config.split)
    return validation, test


def _by_fractions(num_times: int, fractions: Fractions) -> tuple[int, int]:
    num_train, num_validation = (int(num_times * fraction + 1e-9) for fraction in fractions[:2])
    return num_train, num_train + num_validation


def _combinatorial(times: Ints, config: DataConfig) -> Fold:
    """Return one choice of test groups; validation is the group before the first of them, if there is one.

    Where the test begins with the first group, validation is the first group that is not in the test.
    """
    number, num_tests = config.folds.number, config.folds.test_groups or 1
    edges = _edges(0, len(times), number)
    if any(later <= earlier for earlier, later in itertools.pairwise(edges)):
        raise _too_few(times, config)
    test = next(
        itertools.islice(itertools.combinations(range(number), num_tests), config.fold_number - 1, None)
    )
    others = [group for group in range(number) if group not in test]
    validation = test[0] - 1 if test[0] > 0 else others[0]
    train = [group for group in others if group != validation]
    return Fold(*(_joined(times, edges, groups) for groups in (train, [validation], test)))


def _edges(first: int, last: int, number: int) -> list[int]:
    """Cut first..last into ``number`` stretches as equal as can be; return their ends, first included."""
    return [first + (last - first) * group // number for group in range(number + 1)]


def _joined(times: Ints, edges: Sequence[int], groups: Sequence[int]) -> tuple[Span, ...]:
    """Return the spans of groups, neighbours as one."""
    spans: list[list[int]] = []
    for group in groups:
        if spans and spans[-1][1] == edges[group]:
            spans[-1][1] = edges[group + 1]
        else:
            spans.append([edges[group], edges[group + 1]])
    return tuple(_span(times, begin, end) for begin, end in spans)


def _span(times: Ints, begin: int, end: int) -> Span:
    """Return the span of the times numbered begin .. end-1."""
    return Span(int(times[begin]), int(times[end - 1]))


def _spans_in_time(fold: Fold) -> list[tuple[Span, Split]]:
    """Return all spans with their split, in the order of time."""
    return sorted(
        ((span, split) for split in USED for span in fold.spans(split)), key=lambda pair: pair[0].start
    )


def _span_numbers(spans: Sequence[tuple[Span, Split]], time: Ints) -> Ints:
    """Return the number [N] of the span that each time lies in; -1 for none."""
    start, end = (np.array([getattr(span, name) for span, _ in spans]) for name in ("start", "end"))
    number = np.searchsorted(start, time, side="right") - 1
    return np.where((number >= 0) & (time <= end[number]), number, -1)


@dataclass(frozen=True)
class _Places:
    """How many of the same asset's bars in the same span lie before and after each of N bars."""

    num_before: Ints
    num_after: Ints

    @classmethod
    def of(cls, span: Ints, asset: Ints) -> _Places:
        begins = np.ones(len(span), np.bool_)
        begins[1:] = (span[1:] != span[:-1]) | (asset[1:] != asset[:-1])
        start = np.flatnonzero(begins)
        end = np.r_[start[1:], len(span)]
        run, row = np.cumsum(begins) - 1, np.arange(len(span))
        return cls(row - start[run], end[run] - 1 - row)


def _too_few(times: Ints, config: DataConfig) -> UserError:
    fold = f" for fold {config.fold_number} of {config.folds.count}" if config.folds.count > 1 else ""
    if config.folds.kind == "combinatorial" or len(config.split) == 3:
        what = f"{len(times)} times of bars are too few{fold}: a split would have none"
        return UserError(what, where="data.split", fix="use more bars, or fewer folds")
    return _dates_do_not_fit(times, config.split, fold)


def _dates_do_not_fit(times: Ints, split: tuple[date, date], fold: str) -> UserError:
    first, last = iso_date(times[0]), iso_date(times[-1])
    return UserError(
        f"validation from {split[0]} and test from {split[1]} do not fit bars from {first} to {last}{fold}",
        where="data.split",
        fix="choose other dates, or fractions such as [0.70, 0.15, 0.15]",
    )
