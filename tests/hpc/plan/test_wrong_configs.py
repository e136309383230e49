"""Wrong configurations: each is answered by one clear error with its place and remedy; nothing is written.

The training program is asked for real, in its own process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpc.base.errors import UserError, UserErrors, raise_all
from hpc.plan import preflight
from hpc.plan.finding import failures
from hpc.plan.from_args import PlanRequest, checked_plan
from hpc.plan.program import Topic
from hpc.slurm.cluster import Cluster

CONFIG = "cases/crypto/config.yaml"


@dataclass(frozen=True)
class Wrong:
    """What is spoilt, and what must be said. ``line`` is a beginning of the line that the error points at."""

    what: str
    fix: str = ""
    line: str = ""
    where: str = ""
    old: str = ""
    new: str = ""
    overrides: tuple[str, ...] = ()
    case: str = "crypto"
    preset: str = "table"
    cluster: str | None = None
    data_dir: str | None = "bars"
    reads_data: bool = False
    spoil: Callable[[Path], object] = field(default=lambda root: None)


WRONG = {
    "unknown key": Wrong(
        old="patience: 10",
        new="patiense: 10",
        what="patiense: unknown key",
        fix="did you mean 'patience'?",
        line="patiense",
    ),
    "key that the case does not set": Wrong(
        old="  patience: 10\n",
        new="",
        what="training.patience is not set",
        fix="`patience: ...`",
        where=CONFIG,
    ),
    "word for a number": Wrong(
        old="epochs: 50", new="epochs: fifty", what="training.epochs", line="epochs: fifty"
    ),
    "number with a wrong exponent": Wrong(old="lr: 3e-4", new="lr: 3e-4x", what="training.lr", line="lr:"),
    "wrong choice": Wrong(
        overrides=("model.token_embedding=candel",), what="'candle' or 'table'", where="command line"
    ),
    "ticker where a switch belongs": Wrong(
        overrides=("training.compile=AAPL",), what="training.compile", where="command line"
    ),
    "clock where a number belongs": Wrong(
        old="stride: 32", new="stride: 1:30:00", what="data.stride", line="stride: 1:30:00"
    ),
    "unknown network": Wrong(
        overrides=("training.optimizers.modle.lr=1e-4",),
        what="learner language_model has no network 'modle'",
        fix="did you mean 'model'?",
        where="command line",
    ),
    "unknown setting of a network": Wrong(
        overrides=("training.optimizers.model.rl=1e-4",), what="rl", where="command line"
    ),
    "unknown validation metric": Wrong(
        overrides=("training.selection.metric=acuracy",),
        what="learner language_model measures no 'acuracy'",
        fix="did you mean 'accuracy'?",
        where="command line",
    ),
    "unknown partition": Wrong(
        overrides=("resources.partition=lnog",), what="does not exist", fix="'long'", where="command line"
    ),
    "no such GPU type": Wrong(
        overrides=("resources.gpu_type=v100",), what="no v100 GPUs", fix="a100", where="command line"
    ),
    "too many GPUs": Wrong(
        overrides=("resources.gpus=9",), what="have 8", fix="resources.gpus=8", where="command line"
    ),
    "too much memory": Wrong(
        overrides=("resources.memory_gb_per_gpu=400",), what="500 GB", fix="=250", where="command line"
    ),
    "time over the partition's": Wrong(
        overrides=("resources.limit=30-00",), what="longer than partition long allows", where="command line"
    ),
    "bad time limit": Wrong(
        overrides=("resources.limit=1h",), what="'1h' is not a time limit", where="command line"
    ),
    "bad date": Wrong(
        old="  stride: 32",
        new="  stride: 32\n  start: 2020-13-01",
        what="is not a date",
        line="start: 2020-13-01",
    ),
    "start after end": Wrong(
        old="  stride: 32",
        new="  stride: 32\n  start: 2021-01-01\n  end: 2020-01-01",
        what="is not before end",
    ),
    "split not summing to one": Wrong(
        overrides=("data.split=[0.7,0.2,0.2]",), what="must sum to 1, got 1.1", where="command line"
    ),
    "missing data directory": Wrong(
        data_dir="gone", reads_data=True, what="no directory 'gone'", fix="DATA=DIR", where="command line"
    ),
    "no data directory": Wrong(
        data_dir=None, reads_data=True, what="no bars", fix="DATA=DIR", where="cases/_base/config.yaml:7"
    ),
    "unwritable directory": Wrong(
        spoil=lambda root: (root / "runs").write_text(""), what="runs is not a directory"
    ),
    "unknown preset": Wrong(
        preset="smal", what="no preset 'smal'", fix="did you mean 'small'?", where="command line"
    ),
    "unknown case": Wrong(case="cypto", what="no case 'cypto'", fix="did you mean 'crypto'?"),
    "unknown cluster": Wrong(cluster="devclustr", what="no cluster", fix="did you mean 'devcluster'?"),
    "duplicate key": Wrong(
        old="  stride: 32", new="  stride: 32\n  stride: 16", what="'stride' is set twice", line="stride: 16"
    ),
    "tab": Wrong(
        old="  stride: 32", new="\tstride: 32", what="not valid YAML", fix="not with tabs", line="stride: 32"
    ),
    "empty file": Wrong(
        spoil=lambda root: (root / CONFIG).write_text("# nothing yet\n"),
        what="the file is empty",
        where=CONFIG,
    ),
    "list instead of a mapping": Wrong(
        spoil=lambda root: (root / CONFIG).write_text("- a\n"),
        what="expected `key: value`",
        where=f"{CONFIG}:1",
    ),
    "unknown section": Wrong(
        old="training:\n  epochs",
        new="trainign:\n  epochs",
        what="no section 'trainign'",
        fix="did you mean 'training'?",
    ),
    "override of an unknown key": Wrong(
        overrides=("training.bach_size=1",), what="'training.bach_size'", fix="'training.batch_size'"
    ),
    "override without =": Wrong(
        overrides=("training.lr",), what="is not an override", fix="key.path=value", where="command line"
    ),
    "override of a section": Wrong(
        overrides=("training=5",), what="is a section", fix="set one of", where="command line"
    ),
    "negative lr": Wrong(old="lr: 3e-4", new="lr: -3e-4", what="greater than 0", line="lr:"),
    "vocab_size 0": Wrong(
        overrides=("tokenizer.vocab_size=0",), what="tokenizer.vocab_size", where="command line"
    ),
    "heads that do not divide": Wrong(
        overrides=("model.num_heads=7",), what="cannot be divided among 7 heads"
    ),
    "unknown model": Wrong(overrides=("model.name=market_gtp",), what="'market_gtp'", fix="'market_gpt'"),
    "learner of another task": Wrong(
        overrides=("learner.name=supervised",),
        what="learner supervised cannot learn task next_token",
        fix="use one of: language_model",
        where="command line",
    ),
    "model that the learner cannot train": Wrong(
        overrides=("model.name=dlinear",),
        what="but learner language_model trains",
        fix="use one of: market_gpt",
        where="command line",
    ),
    "unknown learner": Wrong(
        overrides=("learner.name=languge_model",), what="'languge_model'", fix="'language_model'"
    ),
    "unknown task": Wrong(overrides=("task.name=next_tokn",), what="'next_tokn'", fix="'next_token'"),
    "task of another kind of case": Wrong(
        case="per_stock",
        overrides=("task.name=next_token", "data.symbol=BTCUSDT"),
        what="cannot learn task next_token",
        fix="use one of: language_model",
    ),
    "unknown source": Wrong(
        overrides=("data.source=file",), what="'file'", fix="'files'", where="command line"
    ),
    "option that is already set": Wrong(
        overrides=("resources.extra.output=x",), what="--output comes from", where="command line"
    ),
    "cluster layer beyond resources": Wrong(
        spoil=lambda root: (root / "slurm/clusters/x.yaml").write_text("training:\n  lr: 1\n"),
        cluster="x",
        what="no section 'training'",
        where="slurm/clusters/x.yaml:2",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_has_one_clear_answer(
    workspace: Path, lab: Cluster, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    wrong = WRONG[name]
    monkeypatch.setenv("HPC_ROOT", str(workspace))
    monkeypatch.chdir(workspace)
    config = workspace / CONFIG
    if wrong.old:
        assert wrong.old in config.read_text()
        config.write_text(config.read_text().replace(wrong.old, wrong.new, 1))
    wrong.spoil(workspace)
    before = {path for path in workspace.rglob("*") if path != workspace / "runs"}

    error = said_about(wrong, lab)

    assert not isinstance(error, UserErrors), str(error)
    assert wrong.what in error.what
    assert wrong.fix in (error.fix or "")
    if wrong.where:
        assert error.where == wrong.where
    if wrong.line:
        assert error.where == f"{CONFIG}:{line_of(config, wrong.line)}"
    assert {path for path in workspace.rglob("*") if path != workspace / "runs"} == before


def said_about(wrong: Wrong, cluster: Cluster) -> UserError:
    with pytest.raises(UserError) as caught:
        plan_and_check(wrong, cluster)
    return caught.value


def plan_and_check(wrong: Wrong, cluster: Cluster) -> None:
    request = PlanRequest(
        wrong.case,
        preset=wrong.preset,
        overrides=wrong.overrides,
        cluster=wrong.cluster,
        data=wrong.data_dir,
    )
    topics: tuple[Topic, ...] = ("data",) if wrong.reads_data else ()
    checked = checked_plan(request, topics)
    raise_all(failures([*preflight.check(checked.plan, cluster), *checked.findings]))


def line_of(path: Path, beginning: str) -> int:
    lines = path.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip().startswith(beginning))
