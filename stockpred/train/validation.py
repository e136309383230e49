"""Validate on all ranks: metrics that add up, metrics of the whole set, and which one chooses the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hpc.base.errors import UserError
from hpc.base.text import suggestion
from stockpred.config.base import SelectionConfig, TrainingConfig
from stockpred.train.cadence import random_key
from stockpred.train.distributed import Group
from stockpred.train.learner import (
    Direction,
    Evaluation,
    Learner,
    Networks,
    Stream,
    evaluation_mode,
    to_device,
)
from stockpred.train.updater import Updater

LAST = "last"
Rows = dict[str, Tensor]


@dataclass(frozen=True)
class Selection:
    """How validation chooses the best weights; ``metric`` is ``last`` where the newest are the best."""

    metric: str
    direction: Direction
    first_step: int

    @classmethod
    def of(cls, settings: SelectionConfig, metrics: Mapping[str, Direction], total_steps: int) -> Selection:
        """Return what is configured, else the first of a learner's ``metrics``.

        Raises UserError for a metric that the learner does not measure, and where nothing could be chosen.
        """
        metric = settings.metric or next(iter(metrics), LAST)
        if metric != LAST and metric not in metrics:
            known = [*metrics, LAST]
            raise UserError(
                f"the learner measures no {metric!r}",
                where="training.selection.metric",
                fix=suggestion(metric, known),
            )
        if settings.first_step > total_steps:
            raise UserError(
                f"the best weights are chosen from step {settings.first_step} on, and training has "
                f"{total_steps} steps",
                where="training.selection.first_step",
                fix=f"set it to at most {total_steps}",
            )
        return cls(metric, metrics.get(metric, "min"), settings.first_step)

    def value(self, validation: Mapping[str, float], step: int) -> float:
        """Return what an evaluation is chosen by: a metric's value, or the step for ``last``.

        Raises UserError where this evaluation has no value of the metric, as without rows to score.
        """
        if self.metric == LAST:
            return float(step)
        if self.metric not in validation:
            raise UserError(
                f"validation at step {step} gave no {self.metric!r}, by which the best weights are chosen",
                where="training.selection.metric",
                fix=f"choose one that it gave: {', '.join([*validation, LAST])}; "
                "or correct METRICS in the learner's file",
            )
        return validation[self.metric]

    def is_better(self, value: float, best: float | None) -> bool:
        if best is None or self.metric == LAST:
            return True
        return value < best if self.direction == "min" else value > best


def validate(
    learner: Learner, stream: Stream, updater: Updater, group: Group, settings: TrainingConfig, step: int
) -> dict[str, float]:
    """Return each metric over all validation samples; every rank takes a share and gets the whole."""
    sums: dict[str, Tensor] = {}
    rows: list[Mapping[str, Tensor]] = []
    networks = Networks(learner.networks, learner.networks)
    batches = stream.evaluation(group.rank, group.world_size, settings.batch_size)
    with torch.no_grad(), evaluation_mode(*learner.networks.values()):
        for index, batch in enumerate(batches):
            number = index * group.world_size + group.rank  # where whole batches are dealt out in turn
            torch.manual_seed(random_key(settings.seed, "evaluate", step, number))
            with updater.forward_context():
                found = learner.evaluate(to_device(batch, group.device), networks)
            _add(sums, found)
            if found.rows:
                rows.append(found.rows)
        means = _joined_means(group.gather({name: pair.tolist() for name, pair in sums.items()}))
        means |= _scored(learner, rows, group, random_key(settings.seed, "score", step))
    return means


def in_double(value: Tensor) -> Tensor:
    """Return ``value`` as float64; on the CPU where its device, MPS, has no such numbers."""
    return (value.cpu() if value.device.type == "mps" else value).double()


def _add(sums: dict[str, Tensor], found: Evaluation) -> None:
    for name, (total, weight) in found.sums.items():
        pair = torch.stack([in_double(total.detach()), in_double(weight)])
        sums[name] = sums[name] + pair if name in sums else pair


def _scored(
    learner: Learner, rows: list[Mapping[str, Tensor]], group: Group, random_seed: int
) -> dict[str, float]:
    """Let rank 0 score the whole set's rows, in the order of its samples; nothing where there are none."""
    if type(learner).score is Learner.score:
        return {}
    ranks = group.gather_on_main([{name: row.cpu() for name, row in batch.items()} for batch in rows])
    batches = [batch for rank in ranks for batch in rank]
    found: dict[str, float] = {}
    if batches:
        torch.manual_seed(random_seed)
        found = learner.score(_in_order(batches))
    scores: dict[str, float] = group.from_main(found)
    return scores


def _in_order(batches: list[Rows]) -> Rows:
    order = torch.cat([batch["sample"] for batch in batches]).argsort()
    return {name: torch.cat([batch[name] for batch in batches])[order] for name in batches[0]}


def _joined_means(ranks: list[dict[str, list[float]]]) -> dict[str, float]:
    names = dict.fromkeys(name for rank in ranks for name in rank)
    means = {}
    for name in names:
        pairs = [rank[name] for rank in ranks if name in rank]
        weight = sum(pair[1] for pair in pairs)
        means[name] = sum(pair[0] for pair in pairs) / weight if weight else math.nan
    return means
