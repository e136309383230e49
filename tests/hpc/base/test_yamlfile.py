"""YAML whose scalars stay as typed."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from hpc.base import yamlfile
from hpc.base.errors import UserError
from hpc.base.yamlfile import Leaf

TICKERS = [
    "AAPL",
    "ON",
    "NO",
    "TRUE",
    "Yes",
    "000660",
    "005930",
    "0700",
    "600519",
    "1E3",
    "NaN",
    "^GSPC",
    "BRK.B",
]


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rate: float
    size: int


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    training: Inner


def test_tickers_come_back_byte_for_byte_where_the_stock_loader_changes_them() -> None:
    text = f"symbols: [{', '.join(TICKERS)}]"

    tree = yamlfile.parse(text, shown_as="case.yaml")

    assert yamlfile.plain(tree)["symbols"] == TICKERS
    assert yaml.safe_load(text)["symbols"] != TICKERS


@pytest.mark.parametrize("text", ["1:30:00", "7-00:00:00", "3e-4", "2020-01-01", "0x1F", "1_000", "on"])
def test_scalars_stay_the_text_that_was_typed(text: str) -> None:
    assert yamlfile.parse(f"key: {text}", shown_as="f")["key"] == Leaf(text, "f:1")


@pytest.mark.parametrize("text", ["", "~", "null"])
def test_nothing_is_none_and_a_quoted_null_is_a_word(text: str) -> None:
    tree = yamlfile.parse(f"key: {text}\nword: 'null'", shown_as="f")

    assert yamlfile.plain(tree) == {"key": None, "word": "null"}


SCALARS = st.none() | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
TREES = st.dictionaries(
    st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8),
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=6),
    min_size=1,
    max_size=5,
)


@given(TREES)
def test_what_is_dumped_is_read_back_the_same(values: dict[str, object]) -> None:
    def leafed(value: object) -> object:
        if isinstance(value, list):
            return [leafed(item) for item in value]
        return Leaf(value, "here:1")  # type: ignore[arg-type]

    tree = {key: leafed(value) for key, value in values.items()}

    for with_origins in (False, True):
        text = yamlfile.dump(tree, with_origins=with_origins)
        assert yamlfile.plain(yamlfile.parse(text, shown_as="again")) == values


def test_every_problem_is_told_at_once_with_its_line_and_a_guess(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_text("training:\n  rate: fast\n  sise: 3\n")

    value, problems = yamlfile.validate(Outer, yamlfile.load(path, shown_as="case.yaml"))

    assert value is None
    assert {(problem.where, problem.what.split(":")[0]) for problem in problems} == {
        ("case.yaml:2", "training.rate"),
        ("case.yaml:2", "training.size"),
        ("case.yaml:3", "training.sise"),
    }
    assert any(problem.fix == "did you mean 'size'?" for problem in problems)


@pytest.mark.parametrize(
    ("content", "what", "line"),
    [
        ("a: 1\na: 2\n", "'a' is set twice", 2),
        ("a: 1\n\tb: 2\n", "not valid YAML", 2),
        ("a: [1, 2\n", "not valid YAML", 2),
        ("- 1\n- 2\n", "expected `key: value` lines", 1),
        ("? [1, 2]\n: x\n", "a key must be a plain word", 1),
        ("just words\n", "expected `key: value` lines", 1),
    ],
)
def test_broken_files_name_the_line(content: str, what: str, line: int) -> None:
    with pytest.raises(UserError) as caught:
        yamlfile.parse(content, shown_as="case.yaml")

    assert what in caught.value.what
    assert caught.value.where == f"case.yaml:{line}"


def test_an_empty_file_says_so() -> None:
    with pytest.raises(UserError, match="the file is empty"):
        yamlfile.parse("\n# nothing\n", shown_as="case.yaml")


def test_an_override_lies_on_top_and_tells_where_it_came_from() -> None:
    base = yamlfile.parse("training:\n  rate: 0.1\n  size: 2\n", shown_as="case.yaml")

    merged = yamlfile.merge(base, yamlfile.parse_override("training.rate=3e-4"))

    assert merged["training"]["rate"] == Leaf("3e-4", "command line")
    assert merged["training"]["size"] == Leaf("2", "case.yaml:3")
    assert base["training"]["rate"].text == "0.1"


def test_a_list_may_be_given_on_the_command_line() -> None:
    tree = yamlfile.parse_override("data.split=[0.8, 0.1, 0.1]")

    assert yamlfile.plain(tree) == {"data": {"split": ["0.8", "0.1", "0.1"]}}


@pytest.mark.parametrize("text", ["training.rate", "=3", ""])
def test_an_override_without_key_and_value_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not an override"):
        yamlfile.parse_override(text)
