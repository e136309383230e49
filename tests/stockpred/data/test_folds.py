"""Folds: single cuts, walks and combinations, and the labels that purging and the embargo leave to them."""

import math
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.base.errors import UserError
from hpc.plan.config import resolve as config_of
from stockpred.config import schema
from stockpred.config.base import DataConfig, FoldsConfig, SyntheticConfig
from stockpred.data import describe, folds, universe
from stockpred.data.folds import Fold
from stockpred.data.load import load_checked_bars
from stockpred.data.splits import USED, Split

REPOSITORY = Path(__file__).resolve().parents[3]
DAY = 86_400_000_000_000


def config(
    split: object = (0.7, 0.15, 0.15),
    kind: str = "expanding",
    number: int = 1,
    test_groups: int | None = None,
    fold: int | None = None,
) -> DataConfig:
    return DataConfig(
        source="files",
        dir=None,
        universe="universe.csv",
        symbol=None,
        start=None,
        end=None,
        split=split,
        embargo=0,
        folds=FoldsConfig(kind=kind, number=number, test_groups=test_groups),
        fold=fold,
        max_hole_sessions=5,
        synthetic=SyntheticConfig(num_bars=1, seed=1, start=date(2020, 1, 1)),
    )


def days(fold: Fold, split: Split) -> list[int]:
    """List the times of a split, where times are 0, 1, 2, ..."""
    return [day for span in fold.spans(split) for day in range(span.start, span.end + 1)]


def test_fractions_are_shares_of_the_dates_and_nothing_lies_between() -> None:
    fold = folds.cut(np.arange(200), config())
    assert [days(fold, split) for split in USED] == [
        list(range(140)),
        list(range(140, 170)),
        list(range(170, 200)),
    ]


def test_dates_say_where_validation_and_test_begin() -> None:
    times = np.arange(18_262, 18_262 + 100) * DAY  # from 2020-01-01 on
    fold = folds.cut(times, config(split=(date(2020, 2, 1), date(2020, 3, 1))))
    assert fold.begin(Split.VALIDATION) == times[31]
    assert fold.begin(Split.TEST) == times[60]
    assert fold.end(Split.TEST) == times[-1]


@pytest.mark.parametrize("kind", ["expanding", "rolling"])
def test_a_walk_tests_the_last_share_of_time_exactly_once(kind: str) -> None:
    walk = [folds.cut(np.arange(203), config(kind=kind, number=4, fold=fold)) for fold in (1, 2, 3, 4)]
    tested = [day for fold in walk for day in days(fold, Split.TEST)]
    assert tested == list(range(172, 203))
    for fold in walk:
        assert fold.end(Split.VALIDATION) + 1 == fold.begin(Split.TEST)
        assert fold.end(Split.TRAIN) + 1 == fold.begin(Split.VALIDATION)
        assert len(days(fold, Split.VALIDATION)) == 30
    lengths = {len(days(fold, Split.TRAIN)) for fold in walk}
    starts = {fold.begin(Split.TRAIN) for fold in walk}
    assert lengths == {142} if kind == "rolling" else starts == {0}


@pytest.mark.parametrize(("number", "test_groups"), [(4, 1), (6, 2), (7, 3)])
def test_combinations_have_the_closed_counts_of_lopez_de_prado(number: int, test_groups: int) -> None:
    settings = FoldsConfig(kind="combinatorial", number=number, test_groups=test_groups)
    assert settings.count == math.comb(number, test_groups)
    found = [
        folds.cut(np.arange(211), config((0.7, 0.15, 0.15), "combinatorial", number, test_groups, fold))
        for fold in range(1, settings.count + 1)
    ]
    assert len({fold.test for fold in found}) == settings.count
    times_tested = Counter(day for fold in found for day in days(fold, Split.TEST))
    num_paths = test_groups * settings.count // number
    assert num_paths == math.comb(number - 1, test_groups - 1)
    assert times_tested == dict.fromkeys(range(211), num_paths)
    for fold in found:
        used = [day for split in USED for day in days(fold, split)]
        assert sorted(used) == list(range(211))


@given(
    st.integers(0, 6),
    st.integers(1, 4),
    st.sampled_from([("expanding", 3, None), ("rolling", 2, None), ("combinatorial", 5, 2)]),
    st.data(),
)
def test_no_label_reaches_into_another_split_nor_into_its_embargo(
    embargo: int, horizon: int, kind: tuple[str, int, int | None], data: st.DataObject
) -> None:
    settings = FoldsConfig(kind=kind[0], number=kind[1], test_groups=kind[2])
    number = data.draw(st.integers(1, settings.count))
    fold = folds.cut(np.arange(90), config(kind=kind[0], number=kind[1], test_groups=kind[2], fold=number))
    traded = [data.draw(st.sets(st.integers(0, 89), min_size=1)) for _ in range(2)]
    time = np.concatenate([np.array(sorted(own), np.int64) for own in traded])
    asset = np.repeat([0, 1], [len(own) for own in traded])
    found = folds.assign(fold, time, asset, embargo=embargo, horizon=horizon)
    assert found.tolist() == slowly(fold, time.tolist(), asset.tolist(), embargo, horizon)


def slowly(fold: Fold, time: list[int], asset: list[int], embargo: int, horizon: int) -> list[int]:
    """Assign bar by bar, straight from the definition."""
    spans = sorted((span.start, span.end, split) for split in USED for span in fold.spans(split))
    answer = []
    for day, owner in zip(time, asset, strict=True):
        place = next((n for n, (start, end, _) in enumerate(spans) if start <= day <= end), None)
        if place is None:
            answer.append(-1)
            continue
        start, end, split = spans[place]
        own = [one for one, other in zip(time, asset, strict=True) if other == owner and start <= one <= end]
        is_kept = own.index(day) >= horizon - 1
        if place + 1 < len(spans) and spans[place + 1][2] > split:
            is_kept &= day not in own[max(len(own) - embargo, 0) :]
        if place > 0 and spans[place - 1][2] > split:
            is_kept &= day not in own[:embargo]
        answer.append(int(split) if is_kept else -1)
    return answer


def test_a_fold_is_read_back_as_it_was_described() -> None:
    fold = folds.cut(np.arange(100) * DAY, config(kind="combinatorial", number=6, test_groups=2, fold=9))
    assert folds.read(folds.describe(fold)) == fold
    assert folds.describe(fold)["test"][0]["from"] == str(np.datetime64(fold.begin(Split.TEST), "ns"))[:19]


@pytest.mark.parametrize(
    ("settings", "num_times", "what"),
    [
        ({}, 4, "4 times of bars are too few"),
        ({"number": 5, "fold": 2}, 9, "too few for fold 2 of 5"),
        ({"kind": "combinatorial", "number": 9, "test_groups": 2, "fold": 1}, 8, "too few for fold 1 of 36"),
        ({"split": (date(2019, 1, 1), date(2020, 1, 3))}, 9, "do not fit bars from 2020-01-01 to 2020-01-09"),
        ({"split": (date(2020, 1, 3), date(2021, 1, 3))}, 9, "do not fit bars"),
    ],
)
def test_a_split_without_a_date_is_refused(settings: dict[str, Any], num_times: int, what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        folds.cut(np.arange(18_262, 18_262 + num_times) * DAY, config(**settings))
    assert caught.value.where == "data.split"
    assert caught.value.fix


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"number": 3, "fold": 4}, "there is no fold 4"),
        ({"number": 3}, "data.folds describe 3 folds: choose one"),
        ({"number": 3, "test_groups": 2}, "belongs to combinatorial folds"),
        ({"kind": "combinatorial", "number": 6}, "need test_groups"),
        ({"kind": "combinatorial", "number": 3, "test_groups": 2}, "leave none to train on"),
    ],
)
def test_impossible_folds_are_refused_with_the_settings(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        config(**settings)


@pytest.mark.parametrize("case", ["reduced", "full_market"])
def test_the_cases_dates_leave_every_category_training_bars_and_nearly_every_asset_too(
    case: str, real_bars: Path
) -> None:
    """By fractions of all dates, no coin had a training bar."""
    settings = config_of(REPOSITORY, case, overrides=("data.source=files", f"data.dir={real_bars}"))
    experiment = schema.of(settings.experiment).model_validate(settings.experiment)
    bars = load_checked_bars(experiment.data, universe.read(REPOSITORY / experiment.data.universe))
    trained = describe.data(experiment.data, bars)["splits"]["train"]["bars"]
    assert all(count > 1000 for count in trained.values()), trained
    assets = describe.assets(bars)
    unseen = [asset["symbol"] for asset in assets if not asset["num_in_split"]["train"]]
    assert len(unseen) <= 0.02 * len(assets), unseen
