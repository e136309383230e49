"""What holds for every task, learner, model, source and case that is found by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from hpc.plan import config
from hpc.run.paths import RunPaths
from stockpred.answers import problems_of
from stockpred.config import combination, registry, schema
from stockpred.config.base import Experiment, LearnerConfig, ModelConfig
from stockpred.config.registry import CONFIGS, LEARNERS, MODELS, SOURCES, TASKS
from stockpred.data import universe
from stockpred.train.learner import num_parameters

ROOT = Path(__file__).resolve().parents[2]
NAMED_TENSOR = re.compile(r"([a-z][a-z_]*)_([A-Z]+)")
SMALL = ("data.synthetic.num_bars=400", "model.context_length=8")
CASES = config.case_names(ROOT)

Overrides = tuple[str, ...]


def fitting() -> list[tuple[str, str, str]]:
    """Return every task with each learner and model that fit."""
    return [
        (task, learner, model)
        for task in registry.names(TASKS)
        for learner in combination.learners_for(task)
        for model in combination.models_for(learner)
    ]


def resolved(case: str, preset: str, *overrides: str) -> dict[str, Any]:
    """Return the sections of a case for the training program, not yet checked by it."""
    return config.resolve(ROOT, case, preset=preset, overrides=overrides).experiment


@cache
def case_of(task: str) -> str:
    """Return a case that trains ``task``."""
    return next(case for case in CASES if resolved(case, "demo")["task"]["name"] == task)


def experiment_of(task: str, learner: str, model: str) -> Experiment:
    """Return a small experiment on synthetic bars."""
    case = case_of(task)
    tree = resolved(case, "demo", *SMALL, f"learner.name={learner}", f"model.name={model}")
    tree["data"]["universe"] = str(ROOT / tree["data"]["universe"])
    if config.resolve(ROOT, case).array.key == "data.symbol":
        tree["data"]["symbol"] = universe.read(Path(tree["data"]["universe"])).symbols[0]
    return schema.of(tree).model_validate(tree)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a run directory with the prepared bars of an experiment, made once for each task."""
    made: dict[str, RunPaths] = {}

    def prepare(experiment: Experiment) -> RunPaths:
        task = experiment.task.name
        if task not in made:
            made[task] = RunPaths(tmp_path_factory.mktemp(task))
            registry.load_task(task).prepare(experiment, made[task])
        return made[task]

    return prepare


def tensors(signature: str) -> list[tuple[str, str]]:
    """Return (name, axes) of each tensor in one side of a signature."""
    found = [NAMED_TENSOR.fullmatch(part.strip()) for part in signature.split(",")]
    assert all(found), f"{signature!r}: write tensors as name_AXES, such as inputs_BTF"
    return [(match[1], match[2]) for match in found if match]


def sizes_by_axis(given: list[tuple[str, torch.Size]]) -> dict[str, int]:
    """Return the size of each axis; tensors that share an axis must agree."""
    sizes: dict[str, int] = {}
    for axes, shape in given:
        assert len(axes) == len(shape), f"{axes} against a tensor of {tuple(shape)}"
        for axis, size in zip(axes, shape, strict=True):
            assert sizes.setdefault(axis, size) == size, f"{axis} is both {sizes[axis]} and {size}"
    return sizes


@pytest.mark.parametrize("model", registry.names(MODELS))
def test_a_model_declares_what_it_takes_and_gives_and_a_learner_can_train_it(model: str) -> None:
    signature = registry.declared(MODELS, model, "SIGNATURE")
    assert isinstance(signature, str), f"models/{model}.py has no SIGNATURE"
    takes, arrow, gives = signature.partition(" -> ")
    assert arrow
    assert tensors(takes)
    assert tensors(gives)
    assert model in {fits for _, _, fits in fitting()}
    assert callable(registry.load(MODELS, model).build)


@pytest.mark.parametrize("learner", registry.names(LEARNERS))
def test_a_learner_declares_what_it_learns_and_trains_and_some_model_fits(learner: str) -> None:
    tasks = registry.declared(LEARNERS, learner, "TASKS")
    assert tasks
    assert set(tasks) <= set(registry.names(TASKS))
    assert combination.models_for(learner)
    assert registry.declared(LEARNERS, learner, "NETWORKS")
    assert set(registry.declared(LEARNERS, learner, "METRICS").values()) <= {"min", "max"}
    assert callable(registry.load(LEARNERS, learner).build)


@pytest.mark.parametrize("task", registry.names(TASKS))
def test_a_task_is_a_folder_with_its_parts_and_a_schema(task: str) -> None:
    for name in ("prepare", "task", "count_parameters"):
        assert callable(getattr(registry.load_task(task), name))
    assert callable(registry.load_task(task, "report").read)
    assert issubclass(registry.load(CONFIGS, task).SCHEMA, Experiment)
    assert combination.learners_for(task)


@pytest.mark.parametrize("source", registry.names(SOURCES))
def test_a_source_loads_bars(source: str) -> None:
    assert callable(registry.load(SOURCES, source).load)


@pytest.mark.parametrize("name", registry.names(CONFIGS))
def test_own_settings_belong_to_a_learner_or_a_model_of_that_name(name: str) -> None:
    settings = getattr(registry.load(CONFIGS, name), "SETTINGS", None)
    if settings is None:
        return
    owners = {LearnerConfig: registry.names(LEARNERS), ModelConfig: registry.names(MODELS)}
    (kind,) = (kind for kind in owners if issubclass(settings, kind))
    assert name in owners[kind]


@pytest.mark.parametrize(("task", "learner", "model"), fitting())
def test_a_models_size_is_counted_without_memory(
    task: str, learner: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = registry.load(MODELS, model)
    really_build, devices = architecture.build, set()

    def build(*args: Any, **options: Any) -> torch.nn.Module:
        network: torch.nn.Module = really_build(*args, **options)
        devices.update(parameter.device.type for parameter in network.parameters())
        return network

    monkeypatch.setattr(architecture, "build", build)
    assert registry.load_task(task).count_parameters(experiment_of(task, learner, model)) > 0
    assert devices == {"meta"}


@pytest.mark.parametrize(("task", "learner", "model"), fitting())
def test_a_model_takes_what_the_batch_holds_and_gives_the_shape_that_it_declares(
    task: str, learner: str, model: str, prepared: Any
) -> None:
    experiment = experiment_of(task, learner, model)
    own = registry.load_task(task).task(experiment, prepared(experiment))
    takes, _, gives = registry.declared(MODELS, model, "SIGNATURE").partition(" -> ")
    batch = own.stream.batch(0, 0, 1, 3)
    inputs = [(axes, batch[name]) for name, axes in tensors(takes)]
    network = own.learner.networks["model"]

    outputs = network(*(tensor for _, tensor in inputs))

    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    shapes = [(axes, tensor.shape) for axes, tensor in inputs]
    shapes += [(axes, tensor.shape) for (_, axes), tensor in zip(tensors(gives), outputs, strict=True)]
    sizes = sizes_by_axis(shapes)
    assert (sizes["B"], sizes["T"]) == (3, 8)
    assert all(torch.isfinite(tensor).all() for tensor in outputs)
    assert num_parameters(network) == registry.load_task(task).count_parameters(experiment)
    assert tuple(own.learner.networks) == registry.declared(LEARNERS, learner, "NETWORKS")
    assert own.learner.metrics == registry.declared(LEARNERS, learner, "METRICS")


@pytest.mark.parametrize(
    ("case", "preset"),
    [(case, preset) for case in CASES for preset in config.preset_names(ROOT, case)],
)
def test_a_case_is_right_for_every_preset(case: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert problems_of(resolved(case, preset)) == []
