"""Several runs in one job: which runs an array has, what its script does in each task, what is refused."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.attempt.local_job import places_of
from hpc.attempt.submit import write_run
from hpc.base.errors import UserError
from hpc.commands.cancel import cancel
from hpc.plan import preflight
from hpc.plan.array import ArrayPlan
from hpc.plan.finding import Severity, failures
from hpc.plan.from_args import PlanRequest, checked_plan, plan_from, single_plan_from
from hpc.plan.plan import Plan
from hpc.plan.sbatch import Tasks
from hpc.run import find
from hpc.run.find import Run
from hpc.run.history import Ledger, reduce
from hpc.run.jobenv import num_cores
from hpc.run.paths import RunPaths
from hpc.slurm.cluster import Cluster

SYMBOLS = ("AAPL", "MSFT", "^GSPC", "BRK B", "it's", "$HOME")


@pytest.fixture(autouse=True)
def _here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "\n".join(f"{symbol},name of {symbol},us_equity" for symbol in SYMBOLS)
    (workspace / "cases/per_stock/universe.csv").write_text(f"symbol,name,category\n{rows}\n")
    monkeypatch.setenv("HPC_ROOT", str(workspace))
    monkeypatch.chdir(workspace)


def request(case: str = "per_stock", **chosen: Any) -> PlanRequest:
    return PlanRequest(case, preset="demo", **chosen)


def array(**chosen: Any) -> ArrayPlan:
    plan = plan_from(request(**chosen))
    assert isinstance(plan, ArrayPlan)
    return plan


def test_a_case_whose_setting_is_open_has_a_run_for_each_symbol_of_its_universe() -> None:
    plan = array()

    assert plan.values == SYMBOLS
    assert [run.config.value("data.symbol") for run in plan.runs] == list(SYMBOLS)
    assert len({run.run_id for run in plan.runs}) == len(SYMBOLS)
    assert [run.run_id.rsplit("-", 1)[0] for run in plan.runs][:4] == [
        "demo-AAPL",
        "demo-MSFT",
        "demo-GSPC",
        "demo-BRK_B",
    ]


def test_a_run_is_the_same_in_an_array_and_alone() -> None:
    in_array = array().runs[0]
    by_name = plan_from(request(only=("AAPL",)))
    by_setting = plan_from(request(overrides=("data.symbol=AAPL",)))

    assert isinstance(by_name, Plan)
    assert in_array == by_name == by_setting


def test_any_setting_makes_an_array() -> None:
    overrides = ("array.key=training.seed", "array.values=[1,2,3]")
    plan = plan_from(request("crypto", overrides=overrides))

    assert isinstance(plan, ArrayPlan)
    assert [run.config.value("training.seed") for run in plan.runs] == ["1", "2", "3"]


def test_the_array_does_not_change_with_what_is_left_to_submit() -> None:
    plan = array()
    rest = plan.restricted_to([plan.runs[1].run_id, plan.runs[4].run_id])

    assert rest.array_id == plan.array_id
    assert "#SBATCH --array=1,4\n" in rest.script
    assert [task for task, _ in rest.chosen_runs] == [1, 4]


@pytest.mark.parametrize("task", range(len(SYMBOLS)))
def test_each_task_begins_its_own_run(workspace: Path, tmp_path: Path, task: int) -> None:
    plan = array()
    spy = tmp_path / "spy"
    spy.write_text('#!/bin/bash\nprintf "%s\\0" "$@"\n')
    spy.chmod(0o755)
    script = plan.script.replace(plan.runs[0].script.split("exec ")[1].split(" ")[0], str(spy))
    own = plan.runs[task]

    environ = {**os.environ, "SLURM_ARRAY_TASK_ID": str(task)}
    subprocess.run(["bash", "-c", script], env=environ, check=True)

    words = (own.paths.logs / "job.log").read_text().split("\0")
    assert words[words.index("--run-id") + 1] == own.run_id
    assert words[words.index("--array") + 1] == plan.array_id
    assert f"data.symbol={SYMBOLS[task]}" in words
    assert f"--output={own.run_dir}/logs/rank_%t.log" in words
    assert words[-2] == own.run_dir


@given(st.sets(st.integers(0, 60), min_size=1), st.none() | st.integers(1, 9))
def test_the_option_names_exactly_the_chosen_tasks(chosen: set[int], at_once: int | None) -> None:
    option = Tasks((), (), chosen=tuple(sorted(chosen)), at_once=at_once).option

    numbers, _, limit = option.partition("%")
    bounds = [tuple(map(int, part.split("-"))) for part in numbers.split(",")]
    assert {n for bound in bounds for n in range(bound[0], bound[-1] + 1)} == chosen
    assert limit == ("" if at_once is None else str(at_once))


@pytest.mark.parametrize(
    ("chosen", "what", "fix"),
    [
        ({"only": ("APPL",)}, "'APPL' is not one of the values of data.symbol", "did you mean 'AAPL'?"),
        ({"only": ("AAPL", "msft")}, "'msft' is not one of", "did you mean 'MSFT'?"),
        ({"overrides": ("array.values=[AAPL,AAPL]",)}, "array.values has 'AAPL' twice", ""),
        ({"overrides": ("array.values=[]",)}, "array.values is empty", "list some values of data.symbol"),
        (
            {"overrides": ("data.universe=nowhere.csv",)},
            "there is no universe file 'nowhere.csv'",
            "symbol,",
        ),
        ({"overrides": ("array.key=data.symbl",)}, "there is no key 'data.symbl'", "data.symbol"),
        ({"overrides": ("data.symbol=APPL",)}, "data.symbol: 'APPL' is not an asset", "did you mean 'AAPL'?"),
    ],
)
def test_a_wrong_choice_has_one_clear_answer(chosen: dict[str, Any], what: str, fix: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_from(request(**chosen))

    assert what in str(caught.value)
    assert fix in (caught.value.fix or "")


def test_a_value_that_the_training_program_refuses_is_told_once() -> None:
    overrides = ("array.key=training.epochs", "array.values=[5,none,-1]")

    with pytest.raises(UserError) as caught:
        plan_from(request("crypto", overrides=overrides))

    assert str(caught.value).count("training.epochs") == 2


def test_a_single_run_has_nothing_to_choose_from() -> None:
    with pytest.raises(UserError, match=r"case crypto is one run: it has no array\.key"):
        plan_from(request("crypto", only=("AAPL",)))


def test_a_command_for_one_run_says_how_to_choose_one() -> None:
    with pytest.raises(UserError) as caught:
        single_plan_from(request())

    assert caught.value.fix == "choose one: data.symbol=AAPL"


@pytest.mark.parametrize(("most", "is_refused"), [(5, True), (6, False)])
def test_an_array_beyond_the_clusters_limit_is_refused(lab: Cluster, most: int, is_refused: bool) -> None:
    small = replace(lab, settings={**lab.settings, "MaxArraySize": str(most)})

    (found,) = [item for item in preflight.check(array(), small) if item.name == "array"]

    assert (found.severity is Severity.FAIL) == is_refused
    if is_refused:
        assert f"allows {most}" in found.what


def test_a_run_goes_by_the_name_of_the_array_that_was_submitted_last() -> None:
    submitted = {"kind": "submitted", "time": 1.0, "executor": "slurm"}
    paths = RunPaths(Path("runs/per_stock/table-AAPL-01234567"))
    first = Run(paths, reduce([submitted | {"job_id": "7_0", "array": "table-89abcdef"}]))
    alone = Run(paths, reduce([submitted | {"job_id": "7_0", "array": "x"}, submitted | {"job_id": "9"}]))

    assert first.job_names == ("hpc-per_stock-table-AAPL-01234567", "hpc-per_stock-table-89abcdef")
    assert alone.job_names == ("hpc-per_stock-table-AAPL-01234567",)


@pytest.mark.parametrize(
    ("gpus", "num_tasks", "at_once", "places"),
    [
        ("0,1,2,3", 1, None, ("0", "1", "2", "3")),
        ("4,5,6,7", 2, None, ("4,5", "6,7")),
        ("GPU-a,GPU-b", 1, 1, ("GPU-a",)),
        ("3", 1, 2, ("3", "3")),
    ],
)
def test_the_places_of_a_pool_share_the_persons_gpus(
    monkeypatch: pytest.MonkeyPatch, gpus: str, num_tasks: int, at_once: int | None, places: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)

    assert places_of(num_tasks, at_once) == places


def test_where_the_system_confines_no_process_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)

    assert num_cores() == 12


def test_without_gpus_there_is_a_place_for_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))

    assert places_of(2, None) == ("", "", "")


def submitted(plan: Plan, array: str | None) -> RunPaths:
    """Make a plan a run that was submitted to Slurm, by itself or in an array."""
    write_run(plan)
    Ledger(plan.paths.events).append("submitted", job_id="7", executor="slurm", array=array)
    return plan.paths


def test_runs_are_named_by_their_array_and_by_their_place_in_it(workspace: Path) -> None:
    plan = array()
    for run in plan.runs:
        submitted(run, plan.array_id)

    of_array = find.matching(workspace, plan.array_id)
    two = find.matching(workspace, "per_stock", "^GSPC AAPL")

    assert {run.paths for run in of_array} == {run.paths for run in plan.runs}
    assert {run.paths.run_id.split("-")[1] for run in two} == {"GSPC", "AAPL"}
    with pytest.raises(UserError) as caught:
        find.matching(workspace, "per_stock", "APPL")
    assert caught.value.fix == "did you mean 'AAPL'?"


@pytest.mark.parametrize("arrays", [("a", "a", None), ("a", "b"), (None, None)])
def test_what_does_not_belong_together_is_not_cancelled_together(arrays: tuple[str | None, ...]) -> None:
    plan = array()
    for run, name in zip(plan.runs, arrays, strict=False):
        submitted(run, name)

    with pytest.raises(UserError, match="means several runs"):
        cancel("per_stock", None)

    assert not any(Ledger(run.paths.events).history().is_cancelled for run in plan.runs)


def test_a_model_that_cannot_be_built_is_refused_before_any_job() -> None:
    overrides = ("model.name=dlinear", "model.hidden_dim=8")

    checked = checked_plan(request(overrides=overrides, only=("AAPL",)), ("sizes",))

    (error,) = failures(checked.findings)
    assert "dlinear has no hidden_dim, but 8 is set" in error.what
    assert error.where == "command line"


def test_values_that_no_program_can_guess_must_be_listed() -> None:
    with pytest.raises(UserError) as caught:
        plan_from(request("crypto", overrides=("array.key=training.max_steps",)))

    assert "array.values is not set" in caught.value.what
    assert caught.value.fix == "list some values of training.max_steps"
