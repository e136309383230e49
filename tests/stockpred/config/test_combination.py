"""Which task, learner and model go together: every pair that does not is refused with those that would."""

from __future__ import annotations

import itertools

import pytest

from hpc.base.errors import UserError
from stockpred.config import combination, registry
from stockpred.config.registry import LEARNERS, MODELS, TASKS
from tests.stockpred.config.conftest import AddFile

FITTING = {
    ("next_token", "language_model"): {"market_gpt"},
    ("forecast", "supervised"): {"mlp", "lstm", "dlinear"},
}
"""By hand: what the toolkit was built with. Others may join."""


@pytest.mark.parametrize(("task", "learner", "models"), [(*names, own) for names, own in FITTING.items()])
def test_what_the_toolkit_was_built_with_fits(task: str, learner: str, models: set[str]) -> None:
    assert learner in combination.learners_for(task)
    assert models <= set(combination.models_for(learner))
    for model in models:
        assert combination.problems(task, learner, model) == []


def test_every_wrong_combination_names_what_would_fit() -> None:
    num_wrong = 0
    for task, learner, model in itertools.product(*map(registry.names, (TASKS, LEARNERS, MODELS))):
        for key, what, fix in combination.problems(task, learner, model):
            num_wrong += 1
            fitting = (
                combination.learners_for(task) if key == "learner.name" else combination.models_for(learner)
            )
            assert {"learner.name": learner, "model.name": model}[key] in what
            assert fitting
            assert fix == f"use one of: {', '.join(fitting)}"

    assert num_wrong


def test_the_learner_is_named_first_where_neither_fits() -> None:
    ((key, what, fix),) = combination.problems("forecast", "language_model", "market_gpt")

    assert (key, what) == ("learner.name", "learner language_model cannot learn task forecast")
    assert "supervised" in str(fix)


def test_a_wrong_model_is_named_with_what_both_sides_declare() -> None:
    ((key, what, fix),) = combination.problems("forecast", "supervised", "market_gpt")

    assert key == "model.name"
    assert "market_gpt is tokens_BT, asset_B, category_B -> logits_BTV" in what
    assert "supervised trains inputs_BTF -> forecast_B" in what
    assert {"mlp", "lstm", "dlinear"} <= set(str(fix).removeprefix("use one of: ").split(", "))


def test_a_model_without_a_signature_says_so(add_file: AddFile) -> None:
    add_file(MODELS, "silent", "def build(config, *, num_features): ...\n")

    ((key, what, fix),) = combination.problems("forecast", "supervised", "silent")

    assert key == "model.name"
    assert what == "models/silent.py does not declare what it takes and gives (SIGNATURE)"
    assert "mlp" in str(fix)


def test_a_signature_that_is_computed_is_not_read(add_file: AddFile) -> None:
    add_file(MODELS, "computed", 'SIGNATURE = "inputs_BTF" + " -> forecast_B"\n')

    assert "computed" not in combination.models_for("supervised")


def test_an_annotated_signature_is_read(add_file: AddFile) -> None:
    add_file(MODELS, "annotated", 'SIGNATURE: str = "inputs_BTF -> forecast_B"\n')

    assert "annotated" in combination.models_for("supervised")


@pytest.mark.parametrize(
    ("content", "constant"),
    [('MODEL = "inputs_BTF -> forecast_B"\n', "TASKS"), ('TASKS = ("forecast",)\n', "MODEL")],
)
def test_a_learner_that_does_not_declare_itself_says_what_is_missing(
    add_file: AddFile, content: str, constant: str
) -> None:
    add_file(LEARNERS, "silent", content)

    ((_, what, _),) = combination.problems("forecast", "silent", "mlp")

    assert what.startswith("learners/silent.py does not declare")
    assert f"({constant})" in what


DECLARED = 'TASKS = ("forecast",)\nMODEL = "inputs_BTF -> forecast_B"\n'
ASKED = "forecast(self, batch: Batch) -> Tensor"


def test_a_learner_without_what_the_tasks_test_calls_is_refused(add_file: AddFile) -> None:
    add_file(LEARNERS, "untestable", f"{DECLARED}class Own(Learner):\n    def updates(self): ...\n")

    ((key, what, fix),) = combination.problems("forecast", "untestable", "mlp")

    assert key == "learner.name"
    assert what == "learner untestable lacks what the test of task forecast calls"
    assert str(fix).startswith(f"define in learners/untestable.py: {ASKED}")


@pytest.mark.parametrize(
    "content",
    [
        "class Own(Learner):\n    def forecast(self, batch): ...\n",
        "class Base(Learner):\n    def forecast(self, batch): ...\nclass Own(Base): ...\n",
        "class Own(Supervised): ...\n",
        "from stockpred.learners.supervised import build\n",
    ],
    ids=["has it", "inherits it", "builds on another file", "is another file's"],
)
def test_a_learner_that_has_or_may_have_what_the_test_calls_passes(add_file: AddFile, content: str) -> None:
    add_file(LEARNERS, "own", f"{DECLARED}{content}")

    assert combination.problems("forecast", "own", "mlp") == []


def test_what_the_text_cannot_tell_is_asked_of_the_learner_itself() -> None:
    class Own:
        def forecast(self) -> None: ...

    combination.require_methods("forecast", "own", Own())
    with pytest.raises(UserError, match="learner own lacks what the test of task next_token calls") as caught:
        combination.require_methods("next_token", "own", Own())
    assert "predict_log_probs(self, batch: Batch) -> Tensor" in str(caught.value.fix)


def test_a_metric_of_a_learner_that_declares_none_says_so(add_file: AddFile) -> None:
    add_file(LEARNERS, "silent", DECLARED)

    ((key, what, _),) = combination.unknown_names("silent", [], "mse")

    assert key == "training.selection.metric"
    assert what == "learners/silent.py does not declare the metrics that it measures (METRICS)"


def test_a_learner_without_a_model_declared_trains_none(add_file: AddFile) -> None:
    add_file(LEARNERS, "silent", 'TASKS = ("forecast",)\n')
    add_file(MODELS, "silent", "")

    assert combination.models_for("silent") == ()
