"""Metrics of the whole set: what is drawn, what there is without rows, and modules that stay frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import toy_core
from small_learners import GaussianStream, KeyedStream
from torch import Tensor, nn

from hpc.base.errors import UserError
from hpc.run.jobenv import JobEnv
from stockpred.config.base import SelectionConfig, TrainingConfig
from stockpred.train.core import prepare
from stockpred.train.distributed import Group
from stockpred.train.learner import Batch, Direction, Evaluation, Learner, Networks, Update
from stockpred.train.validation import Selection, validate

SETTINGS = TrainingConfig.model_validate(toy_core.SETTINGS)
CPU = torch.device("cpu")
ALONE = Group(JobEnv.read({}), CPU)


@dataclass(frozen=True)
class OneOfSeveral(Group):
    """A rank whose part of a collective is noted; rank 0 finds what the others have noted before it."""

    noted: list[Any] = field(default_factory=list)

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def gather_on_main(self, value: Any) -> list[Any]:
        self.noted.append(value)
        return list(reversed(self.noted)) if self.is_main else []

    def from_main(self, value: Any) -> Any:
        return value


class Sampling(Learner):
    """Adds noise to each sample's forecast and scores a random choice of the rows."""

    metrics: Mapping[str, Direction] = {"noise": "min"}

    def __init__(self, *, has_rows: bool = True) -> None:
        frozen = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.networks = {"model": nn.Sequential(frozen, nn.Dropout(0.5), nn.Linear(2, 1))}
        self.has_rows = has_rows
        self.modes: list[bool] = []

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        yield "model", networks.synced("model")(batch["real"]).square().mean()

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        self.modes += [module.training for module in networks.local("model").modules()]
        noise_B = torch.randn(len(batch["sample"]))
        rows = {"sample": batch["sample"], "noise": noise_B} if self.has_rows else {}
        return Evaluation({"noise": (noise_B.sum(), torch.tensor(float(len(noise_B))))}, rows)

    def score(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        chosen = torch.randint(len(rows["noise"]), (8,))
        return {"sum of all": float(rows["noise"].double().sum()), "draw": float(rows["noise"][chosen].sum())}


def validated(learner: Learner, group: Group, stream: KeyedStream, step: int = 1) -> dict[str, float]:
    # A rank's networks are unwrapped in validation, so that one process can be any rank.
    updater, _ = prepare(learner, ALONE, SETTINGS)
    return validate(learner, stream, updater, group, SETTINGS, step)


def validated_by(world_size: int, step: int = 1) -> dict[str, float]:
    """Validate as each rank in turn, rank 0 last; return what it scores."""
    noted: list[Any] = []
    found: dict[str, float] = {}
    for rank in reversed(range(world_size)):
        env = JobEnv.read({"RANK": str(rank), "WORLD_SIZE": str(world_size)})
        learner = Sampling()
        if rank > 0:
            learner.score = lambda rows: pytest.fail("only rank 0 scores")  # type: ignore[method-assign]
        found = validated(learner, OneOfSeveral(env, CPU, noted=noted), GaussianStream(), step)
    return found


def test_what_validation_draws_is_the_same_for_every_number_of_ranks() -> None:
    """96 samples in 12 batches; their order, and so that of the sum, is the set's."""
    found = [validated_by(world_size) for world_size in (1, 2, 3)]
    for name in ("sum of all", "draw"):
        assert found[0][name] == found[1][name] == found[2][name]


def test_what_is_drawn_differs_from_step_to_step() -> None:
    assert validated_by(1, step=1)["draw"] != validated_by(1, step=2)["draw"]


def test_there_is_no_score_where_there_are_no_rows() -> None:
    assert validated(Sampling(has_rows=False), ALONE, GaussianStream()).keys() == {"noise"}


def test_a_choice_by_a_metric_that_validation_did_not_give_says_so() -> None:
    selection = Selection.of(SelectionConfig(metric="draw", first_step=0), {"draw": "max"}, 10)
    assert selection.value({"noise": 1.0, "draw": 2.0}, 3) == 2.0
    with pytest.raises(UserError, match="validation at step 3 gave no 'draw'") as caught:
        selection.value({"noise": 1.0}, 3)
    assert (
        caught.value.fix == "choose one that it gave: noise, last; or correct METRICS in the learner's file"
    )


def test_a_network_in_evaluation_mode_as_a_whole_is_put_into_training() -> None:
    learner = Sampling()
    learner.networks["model"].eval()
    prepare(learner, ALONE, SETTINGS)
    assert all(module.training for module in learner.networks["model"].modules())


def test_validation_leaves_a_frozen_part_frozen_and_the_rest_in_training() -> None:
    learner = Sampling()
    model = learner.networks["model"]
    model[0].eval()
    updater, _ = prepare(learner, ALONE, SETTINGS)
    before = [module.training for module in model.modules()]
    validate(learner, GaussianStream(), updater, ALONE, SETTINGS, 1)
    assert not any(learner.modes)
    assert (
        [module.training for module in model.modules()] == before == [True, False, False, False, True, True]
    )
