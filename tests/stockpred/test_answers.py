"""What the training program answers the launcher: missing data, an array's values, sizes of models."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.plan import config, program
from hpc.plan.program import Question
from stockpred import answers

REPOSITORY = Path(__file__).parents[2]
UNIVERSE = "symbol,name,category\nAAPL,Apple,us_equity\nXOM,Exxon,us_equity\n"
POISON = "raise ImportError('torch was imported')\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a workspace of the repository's cases with two assets, and a cache of its own."""
    for folder in ("cases", "slurm"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    (tmp_path / "universe.csv").write_text(UNIVERSE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPC_ROOT", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def experiment(case: str, *overrides: str, preset: str = "demo") -> dict[str, Any]:
    settings = ("data.universe=universe.csv", *overrides)
    return config.resolve(Path.cwd(), case, preset=preset, overrides=settings).experiment


def findings(*overrides: str) -> list[dict[str, Any]]:
    return answers.data_findings([experiment("per_stock", "data.source=files", *overrides)])


def test_bars_that_are_nowhere_are_missing_with_the_way_to_get_them(here: Path) -> None:
    (here / "empty").mkdir()

    for overrides in (["data.dir=null"], ["data.dir=nowhere"], ["data.dir=empty"]):
        (finding,) = findings(*overrides)

        assert (finding["severity"], finding["where"]) == ("fail", "data.dir")
        assert "DATA=DIR" in finding["fix"]
        assert "data.source=synthetic" in finding["fix"]


def test_synthetic_bars_are_never_silent(here: Path) -> None:
    (finding,) = answers.data_findings([experiment("per_stock", "data.dir=bars")])

    assert finding["severity"] == "warn"
    assert "says nothing about a market" in finding["what"]
    assert "bars is not read" in finding["what"]


@pytest.mark.parametrize("content", [None, ""])
def test_a_universe_that_is_missing_or_empty_is_refused(here: Path, content: str | None) -> None:
    (here / "universe.csv").unlink()
    if content is not None:
        (here / "universe.csv").write_text(content)
    case = {"experiments": [experiment("crypto")], "vary": None, "only": []}

    (answer,) = answers.answer({"cases": [case], "topics": ["data"]})["cases"]

    assert [(found["name"], found["severity"]) for found in answer["findings"]] == [("universe", "fail")]


def test_an_open_symbol_takes_its_values_from_the_universe_and_is_answered_for_each(here: Path) -> None:
    question = Question((experiment("per_stock"),), vary="data.symbol", only=("XOM",))

    (case,) = program.ask(here, [question]).cases

    assert case.values == ("AAPL", "XOM")
    assert len(case.runs) == 1


@pytest.mark.parametrize(
    ("folds", "values"),
    [
        (("data.folds.number=4",), ("1", "2", "3", "4")),
        (
            ("data.folds.kind=combinatorial", "data.folds.number=4", "data.folds.test_groups=2"),
            tuple(map(str, range(1, 7))),
        ),
    ],
)
def test_open_folds_are_numbered_and_each_is_answered_for(
    here: Path, folds: tuple[str, ...], values: tuple[str, ...]
) -> None:
    question = Question((experiment("crypto", *folds),), vary="data.fold", only=())

    (case,) = program.ask(here, [question]).cases

    assert case.values == values
    assert [run.problems for run in case.runs] == [()] * len(values)


def test_folds_that_cannot_be_are_refused_by_their_setting(here: Path) -> None:
    tree = experiment("crypto", "data.folds.kind=combinatorial")

    (case,) = program.ask(here, [Question((tree,), vary="data.fold", only=())]).cases

    (found,) = case.findings
    assert "combinatorial folds need test_groups" in found.what
    assert found.where == "data.folds"


def test_a_model_is_counted_as_torch_counts_it(here: Path) -> None:
    tree = experiment("per_stock", "data.symbol=AAPL", "model.name=mlp", "model.hidden_dim=7")

    (case,) = program.ask(here, [Question((tree,))], ("sizes",)).cases

    num_inputs = int(tree["model"]["context_length"]) * 5
    dims = [num_inputs, *[7] * 2, 1]
    dense = sum((width + 1) * after for width, after in itertools.pairwise(dims))
    assert case.runs[0].size == dense


def test_a_second_submit_imports_no_torch_and_a_changed_model_is_counted_anew(here: Path) -> None:
    first = submit(here, is_torch_poisoned=False)
    again = submit(here, is_torch_poisoned=True)
    of_another_rate = submit(here, "training.lr=1e-5", is_torch_poisoned=True)
    of_another_model = submit(here, "model.d_model=32", is_torch_poisoned=True)

    assert first.returncode == 0, first.stderr
    assert again.returncode == 0, again.stderr
    assert parameters_in(again.stderr) == parameters_in(first.stderr) != "-"
    assert of_another_rate.returncode == 0, of_another_rate.stderr
    assert of_another_model.returncode != 0
    assert "torch was imported" in of_another_model.stderr


def test_another_universe_is_counted_anew(here: Path) -> None:
    tree = experiment("crypto")
    (small,) = program.ask(here, [Question((tree,))], ("sizes",)).cases
    (here / "universe.csv").write_text(f"{UNIVERSE}BTC,Bitcoin,crypto\n")

    (large,) = program.ask(here, [Question((tree,))], ("sizes",)).cases

    assert small.runs[0].size is not None
    assert large.runs[0].size is not None
    assert large.runs[0].size > small.runs[0].size


def submit(here: Path, *overrides: str, is_torch_poisoned: bool) -> subprocess.CompletedProcess[str]:
    """Ask what a submit asks, from the preview on; a poisoned torch fails whoever imports it."""
    poison = here / "poison"
    (poison / "torch").mkdir(parents=True, exist_ok=True)
    (poison / "torch" / "__init__.py").write_text(POISON)
    path = os.pathsep.join([*([str(poison)] if is_torch_poisoned else []), str(REPOSITORY)])
    code = (
        "import sys; from hpc.commands import launch; from hpc.plan import from_args, program\n"
        "request = from_args.PlanRequest('crypto', preset='demo', overrides=tuple(sys.argv[1:]))\n"
        "checked = from_args.checked_plans([request], program.SUBMIT)\n"
        "try: launch.launch(checked, locally=True, is_agreed=lambda: False)\n"
        "except Exception as error: sys.exit(0 if 'nothing was submitted' in str(error) else str(error))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "data.universe=universe.csv", *overrides],
        cwd=here,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def parameters_in(preview: str) -> str:
    """Return the column `parameters` of the preview of one case."""
    lines = preview.splitlines()
    header = next(line for line in lines if line.startswith("case "))
    begin = header.index("parameters")
    return lines[lines.index(header) + 1][begin:].split()[0]


def test_the_answer_is_one_line_of_json(here: Path) -> None:
    question = {"cases": [{"experiments": [experiment("crypto")], "vary": None, "only": []}], "topics": []}
    done = subprocess.run(
        [sys.executable, "-m", "stockpred", "answer"],
        input=json.dumps(question),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout)["cases"][0]["runs"] == [{"problems": [], "size": None}]
    assert "torch" in json.loads(done.stdout)["packages"]
