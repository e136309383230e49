"""The sections that every experiment has, whatever its task: data, task, learner, model, training.

The schema of one task's experiments is in ``stockpred/config/TASK.py``. Nothing has a hidden default: every
value stands in ``cases/_base`` or in a case. Scalars arrive as the text that was typed and are converted
here. Importing this module is quick: no torch, no numpy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from hpc.base import yamlfile
from hpc.base.errors import raise_all


def _date(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a date; write YYYY-MM-DD") from None


def _split(value: object) -> object:
    """Read three fractions or two dates."""
    if not isinstance(value, list | tuple) or len(value) not in (2, 3):
        raise ValueError("write three fractions, or the two dates at which validation and test begin")
    if len(value) == 2:
        return _rising(tuple(_date(item) for item in value))
    try:
        fractions = tuple(float(item) for item in value)
    except (TypeError, ValueError):
        raise ValueError("write three fractions, such as [0.70, 0.15, 0.15]") from None
    if min(fractions) <= 0.0:
        raise ValueError("train, validation and test must each have a positive share")
    if not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise ValueError(f"train, validation and test must sum to 1, got {sum(fractions):g}")
    return fractions


def _rising(dates: tuple[object, ...]) -> tuple[object, ...]:
    first, second = dates
    if isinstance(first, date) and isinstance(second, date) and first >= second:
        raise ValueError(f"validation must begin before the test: {first} is not before {second}")
    return dates


def _patience(value: object) -> int | Literal["off"]:
    if value == "off":
        return "off"
    if isinstance(value, int | str) and str(value).isdecimal() and int(value) > 0:
        return int(value)
    raise ValueError(f"{value!r} is not a number of evaluations; write one, or off")


Date = Annotated[date, BeforeValidator(_date)]
Fractions = tuple[float, float, float]
Split = Annotated[Fractions | tuple[date, date], BeforeValidator(_split)]
"""Shares of train, validation and test, or the first dates of validation and of test."""
Patience = Annotated[int | Literal["off"], PlainValidator(_patience)]
"""Evaluations without improvement that end training, or none that do."""
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class ConfigSection(BaseModel):
    """A part of an experiment: frozen, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class SyntheticConfig(ConfigSection):
    """Bars made by a seeded simulation; ``num_bars`` per asset."""

    num_bars: PositiveInt
    seed: int
    start: Date


class FoldsConfig(ConfigSection):
    """How many folds there are, and what lies between them; see ``stockpred/data/folds.py``.

    ``number`` counts successive tests, or the groups of combinatorial folds, of which ``test_groups`` are
    tested at a time.
    """

    kind: Literal["expanding", "rolling", "combinatorial"]
    number: PositiveInt
    test_groups: PositiveInt | None

    @property
    def count(self) -> int:
        """How many folds these settings describe."""
        return self.number if self.test_groups is None else math.comb(self.number, self.test_groups)

    @model_validator(mode="after")
    def _leaves_groups_to_train_and_choose(self) -> Self:
        if self.kind != "combinatorial":
            if self.test_groups is not None:
                raise ValueError(f"test_groups belongs to combinatorial folds, not to {self.kind} ones")
        elif self.test_groups is None:
            raise ValueError("combinatorial folds need test_groups: how many groups each test takes")
        elif self.number - self.test_groups < 2:
            left = f"{self.number} groups with {self.test_groups} in each test"
            raise ValueError(f"{left} leave none to train on and one to choose by: raise number")
        return self


class DataConfig(ConfigSection):
    """Where bars come from and how time is split; ``symbol`` picks one asset of the universe.

    ``embargo`` counts an asset's own bars at the boundaries of splits; ``fold`` is one of ``folds``, from 1,
    or None where there is only one.
    """

    source: str
    dir: str | None
    universe: str
    symbol: str | None
    start: Date | None
    end: Date | None
    split: Split
    embargo: Annotated[int, Field(ge=0)]
    folds: FoldsConfig
    fold: PositiveInt | None
    max_hole_sessions: PositiveInt
    synthetic: SyntheticConfig

    @model_validator(mode="after")
    def _starts_before_it_ends(self) -> Self:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start {self.start} is not before end {self.end}")
        return self

    @model_validator(mode="after")
    def _has_that_fold(self) -> Self:
        if self.fold is None and self.folds.count > 1:
            every = "choose one with data.fold=1, or train all of them with array.key=data.fold"
            raise ValueError(f"data.folds describe {self.folds.count} folds: {every}")
        if self.fold_number > self.folds.count:
            raise ValueError(f"there is no fold {self.fold}: data.folds describe {self.folds.count}")
        return self

    @property
    def fold_number(self) -> int:
        """The number of the fold, from 1 on."""
        return self.fold or 1


class ModelConfig(ConfigSection):
    """What every architecture has; ``context_length`` in bars."""

    name: str
    context_length: PositiveInt
    dropout: Fraction


class TaskConfig(ConfigSection):
    """What is learned, and how it is judged.

    ``test`` says whether a run opens its test: ``once`` at its end, or not at all, ``sealed``. None seals the
    runs of an array, among which a choice will be made.
    """

    name: str
    test: Literal["once", "sealed"] | None


class LearnerConfig(ConfigSection):
    """How the model learns."""

    name: str


class OptimizerConfig(ConfigSection):
    """What one network's optimizer has of its own; None takes the shared setting of the same name."""

    lr: PositiveFloat | None = None
    min_lr_fraction: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    warmup_fraction: Fraction | None = None
    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    beta1: Fraction | None = None
    beta2: Fraction | None = None
    gradient_clip: PositiveFloat | None = None


class SelectionConfig(ConfigSection):
    """Which validation metric chooses the best weights.

    ``metric`` None takes the learner's own choice, ``last`` the last weights. Evaluations before
    ``first_step`` choose nothing.
    """

    metric: str | None
    first_step: Annotated[int, Field(ge=0)]


class TrainingConfig(ConfigSection):
    """What the shared core needs; ``batch_size`` counts samples per rank and micro-batch.

    ``lr_batch`` is the joint batch that the learning rates were found with; they grow in proportion to
    another one. None takes them as they are.
    """

    seed: int
    epochs: PositiveInt
    max_steps: PositiveInt | None
    batch_size: PositiveInt
    accumulate: PositiveInt
    lr: PositiveFloat
    min_lr_fraction: Annotated[float, Field(ge=0.0, le=1.0)]
    warmup_fraction: Fraction
    weight_decay: Annotated[float, Field(ge=0.0)]
    beta1: Fraction
    beta2: Fraction
    gradient_clip: PositiveFloat
    optimizers: Mapping[str, OptimizerConfig]
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    device: Literal["auto", "cuda", "mps", "cpu"]
    num_workers: Annotated[int, Field(ge=0)]
    patience: Patience
    selection: SelectionConfig
    evaluations_per_epoch: PositiveFloat
    checkpoint_every_s: Annotated[float, Field(ge=0.0)]
    keep_checkpoints: PositiveInt
    compile: bool
    exact: bool
    parallel: Literal["ddp", "data_parallel"]
    gradient_checkpointing: bool
    gradient_compression: Literal["none", "bf16", "powersgd"]
    lr_batch: PositiveInt | None
    collective_timeout_s: PositiveFloat
    nccl_debug: Literal["VERSION", "WARN", "INFO", "TRACE"] | None
    tensorboard: bool

    @model_validator(mode="after")
    def _warms_up_to_a_scaled_rate(self) -> Self:
        if self.lr_batch is not None and self.warmup_fraction == 0.0:
            raise ValueError("lr_batch scales the learning rate, which needs a warm-up: set warmup_fraction")
        return self


class Experiment(ConfigSection):
    """One case with one preset and its overrides, ready to run."""

    data: DataConfig
    task: TaskConfig
    learner: LearnerConfig
    model: ModelConfig
    training: TrainingConfig

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the experiment's sections of a run's ``config.yaml``; raise every problem at once."""
        tree = yamlfile.load(path)
        sections = {name: value for name, value in tree.items() if name in cls.model_fields}
        experiment, problems = yamlfile.validate(cls, sections)
        raise_all(problems)
        assert experiment is not None
        return experiment
