"""Answer the launcher's question before any job: are the experiments right, is their data there, how big are
their models, and which values may an array take.

The question and the answer are JSON; ``hpc/plan/program.py`` is the other side. Torch is imported only to
count the parameters of a model for the first time (``stockpred/model_sizes.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hpc.base import yamlfile
from hpc.base.errors import ExitCode, UserError
from hpc.base.text import suggestion
from stockpred import model_sizes
from stockpred.config import combination, registry, schema
from stockpred.config.base import DataConfig, FoldsConfig
from stockpred.config.registry import LEARNERS, MODELS, SOURCES
from stockpred.data import universe
from stockpred.data.universe import Universe

PACKAGES = ("torch", "numpy", "pandas", "pyarrow", "submitit")
"""The packages on which a result depends; their versions are recorded with a run."""

SYMBOL, FOLD = "data.symbol", "data.fold"
"""The settings whose values are known without a list: the universe's symbols, the folds of data.folds."""

HOW_TO_GET_BARS = (
    "fetch them where there is internet: stockpred data fetch NAME --out DIR; "
    "or bring your own, one CSV or Parquet per asset; and give their directory: "
    "make submit CASE=NAME DATA=DIR (hpc submit NAME data.dir=DIR); "
    "or use invented bars: data.source=synthetic"
)

Tree = dict[str, Any]
Row = dict[str, Any]


def answer(question: Row) -> Row:
    """Answer about ``{"cases": [...], "topics": [...]}`` in the order of the cases and of their runs."""
    topics = question["topics"]
    return {
        "cases": [_answer_case(case, topics) for case in question["cases"]],
        "packages": list(PACKAGES),
    }


def problems_of(tree: Tree) -> list[Row]:
    """Return every problem of an experiment as {key, what, fix}.

    Where task, learner and model do not fit, that alone: the settings are then those of another task.
    """
    try:
        experiment = schema.of(tree)
    except UserError as error:
        return [_problem("task.name", error.what, error.fix)]
    unknown = [
        *_unknown_name(tree, "data.source", SOURCES),
        *_unknown_name(tree, "learner.name", LEARNERS),
        *_unknown_name(tree, "model.name", MODELS),
    ]
    misfits = [] if unknown else _misfits(tree)
    if misfits:
        return [_problem(*problem) for problem in misfits]
    found = [
        *yamlfile.problems_of(experiment, tree),
        *unknown,
        *([] if unknown else _unknown_in_training(tree)),
        *_unknown_symbol(tree.get("data")),
    ]
    return [_problem(*problem) for problem in found]


def data_findings(trees: Sequence[Tree]) -> list[Row]:
    """Return what there is to say about the data of a case's runs, each thing once."""
    found: dict[str, Row] = {}
    for config, assets in _wanted_bars(trees):
        for finding in _findings(config, assets):
            found.setdefault(finding["what"], finding)
    return list(found.values())


def _answer_case(case: Row, topics: Sequence[str]) -> Row:
    try:
        values, trees = _expanded(case)
    except UserError as error:
        return {"values": None, "runs": [], "findings": [_finding("values", "fail", error)]}
    problems = [problems_of(tree) for tree in trees]
    sizes: list[int | None] = [None] * len(trees)
    findings: list[Row] = []
    if not any(problems):
        findings = _checked_findings(trees) if "data" in topics else []
        if "sizes" in topics and not any(finding["severity"] == "fail" for finding in findings):
            sizes, errors = _sizes(trees)
            findings += errors
    runs = [{"problems": found, "size": size} for found, size in zip(problems, sizes, strict=True)]
    return {"values": values, "runs": runs, "findings": findings}


def _expanded(case: Row) -> tuple[list[str] | None, list[Tree]]:
    """Return all values of the varied key, and the experiments of those that are asked about."""
    key = case["vary"]
    if key is None:
        return None, list(case["experiments"])
    (tree,) = case["experiments"]
    if key not in (SYMBOL, FOLD):
        what, fix = "array.values is not set", f"list some values of {key}"
        raise UserError(what, where="array.key", fix=fix)
    values = _symbols(tree) if key == SYMBOL else _folds(tree)
    chosen = [value for value in values if not case["only"] or value in case["only"]]
    section, name = key.split(".")
    return values, [{**tree, section: {**tree[section], name: value}} for value in chosen]


def _folds(tree: Tree) -> list[str]:
    """Return the numbers of an experiment's folds; raise UserError where data.folds is not right."""
    data = tree.get("data")
    try:
        folds = FoldsConfig.model_validate(data.get("folds") if isinstance(data, dict) else None)
    except ValidationError as error:
        what = f"data.folds is not right: {error.errors()[0]['msg']}"
        raise UserError(what, where="data.folds", fix="see data.folds in cases/_base/config.yaml") from None
    return [str(number) for number in range(1, folds.count + 1)]


def _symbols(tree: Tree) -> list[str]:
    """Return the symbols of an experiment's universe; raise UserError where it cannot be read."""
    data = tree.get("data")
    name = data.get("universe") if isinstance(data, dict) else None
    if name is None:
        what = "array.values is not set, and there is no universe to take symbols from"
        raise UserError(what, where="data.universe")
    return list(_read_universe(str(name)).symbols)


def _read_universe(name: str) -> Universe:
    """Read a universe; where there is none, say which setting names it."""
    if not Path(name).is_file():
        fix = "write symbol,name,category lines"
        what = f"there is no universe file {name!r}"
        raise UserError(what, where="data.universe", fix=fix, exit_code=ExitCode.REFUSED)
    return universe.read(Path(name))


def _checked_findings(trees: Sequence[Tree]) -> list[Row]:
    try:
        return data_findings(trees)
    except UserError as error:
        return [_finding("universe", "fail", error)]


def _findings(config: DataConfig, assets: Universe) -> Iterator[Row]:
    """Yield what there is to say about one place of bars; only the heads of files are read."""
    if config.source == "synthetic":
        ignored = f"; {config.dir} is not read" if config.dir else ""
        what = f"synthetic bars: the result says nothing about a market{ignored}"
        yield _finding("bars", "warn", UserError(what, where="data.source"))
        return
    source = registry.load(SOURCES, config.source, where="data.source")
    try:
        if config.source == "files":
            _require_files(config.dir)
        if hasattr(source, "survey"):
            source.survey(config, assets)
    except UserError as error:
        yield _finding("bars", "fail", error)


def _require_files(directory: str | None) -> None:
    """Raise UserError, with the way to get bars, where there is nothing that could be read."""
    what = None
    if directory is None:
        what = "there are no bars: data.dir is not set"
    elif not Path(directory).exists():
        what = f"there is no directory {directory!r}"
    elif Path(directory).is_dir() and not any(Path(directory).iterdir()):
        what = f"{directory!r} holds no files"
    if what:
        raise UserError(what, where="data.dir", fix=HOW_TO_GET_BARS, exit_code=ExitCode.REFUSED)


def _sizes(trees: Sequence[Tree]) -> tuple[list[int | None], list[Row]]:
    """Return the size of each experiment's model, None where it cannot be built, and why it cannot."""
    sizes: list[int | None] = []
    errors: dict[str, Row] = {}
    for tree in trees:
        try:
            sizes.append(model_sizes.size_of(tree))
        except UserError as error:
            sizes.append(None)
            errors.setdefault(str(error), _finding("model", "fail", error))
    return sizes, list(errors.values())


def _misfits(tree: Tree) -> list[combination.Problem]:
    task, learner, model = (schema.name_in(tree, section) for section in ("task", "learner", "model"))
    return combination.problems(task, learner, model) if task and learner and model else []


def _unknown_in_training(tree: Tree) -> list[combination.Problem]:
    training, learner = tree.get("training"), schema.name_in(tree, "learner")
    if not isinstance(training, dict) or learner is None:
        return []
    optimizers, selection = training.get("optimizers"), training.get("selection")
    metric = selection.get("metric") if isinstance(selection, dict) else None
    return combination.unknown_names(learner, optimizers if isinstance(optimizers, dict) else (), metric)


def _unknown_name(tree: Tree, key: str, package: str) -> list[combination.Problem]:
    section, field = key.split(".")
    values = tree.get(section)
    name = values.get(field) if isinstance(values, dict) else None
    known = registry.names(package)
    if not isinstance(name, str) or name in known:
        return []
    return [(key, f"there is no {name!r} in {package.replace('.', '/')}", suggestion(name, known))]


def _unknown_symbol(data: object) -> list[combination.Problem]:
    """Look the chosen asset up in the universe; one that cannot be read is a finding, not a problem."""
    if not isinstance(data, dict) or data.get("symbol") is None or data.get("universe") is None:
        return []
    try:
        assets = universe.read(Path(str(data["universe"])))
    except UserError:
        return []
    symbol = str(data["symbol"])
    if symbol in assets.symbols:
        return []
    return [(SYMBOL, f"{symbol!r} is not an asset of {assets.path}", suggestion(symbol, assets.symbols))]


def _wanted_bars(trees: Sequence[Tree]) -> Iterator[tuple[DataConfig, Universe]]:
    """Yield each place of bars with all assets that are wanted from it."""
    groups: dict[str, list[DataConfig]] = {}
    for tree in trees:
        config = schema.of(tree).model_validate(tree).data
        place = json.dumps([config.source, config.dir, config.universe])
        groups.setdefault(place, []).append(config)
    for configs in groups.values():
        assets = _read_universe(configs[0].universe)
        symbols = {config.symbol for config in configs}
        if None not in symbols:
            assets = Universe(assets.path, tuple(one for one in assets.assets if one.symbol in symbols))
        yield configs[0], assets


def _finding(name: str, severity: str, error: UserError) -> Row:
    return {"name": name, "severity": severity, **error.row, "exit_code": int(error.exit_code)}


def _problem(key: str, what: str, fix: str | None) -> Row:
    return {"key": key, "what": what, "fix": fix}
