"""YAML whose scalars stay as they were typed, and errors that point at the line.

A stock loader turns the tickers ON and NO into booleans, 000660 into 432 and 1:30:00 into 5400. Here every
scalar is text until a schema converts it; only an empty value, ``~`` and ``null`` mean nothing. A tree is
made of dicts, lists and ``Leaf``; each leaf knows its origin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hpc.base.errors import UserError
from hpc.base.text import suggestion

NOTHING = ("", "~", "null", "Null", "NULL")
COMMAND_LINE = "command line"
_PLAIN = re.compile(r"[A-Za-z0-9_./^+-][A-Za-z0-9_./^+:=@-]*( [A-Za-z0-9_./^+-][A-Za-z0-9_./^+:=@-]*)*")


@dataclass(frozen=True)
class Leaf:
    """One scalar as typed (None for nothing) and where it stands."""

    text: str | None
    origin: str


Tree = Any
"""A ``dict[str, Tree]``, a ``list[Tree]`` or a ``Leaf``."""

Model = TypeVar("Model", bound=BaseModel)


def load(path: Path, *, shown_as: str | None = None) -> dict[str, Tree]:
    """Read a mapping; raise UserError with file:line for anything else."""
    name = shown_as or str(path)
    try:
        content = path.read_bytes().decode()
    except FileNotFoundError:
        raise UserError("there is no such file", where=name, fix="write it, or correct the path") from None
    except (PermissionError, IsADirectoryError) as error:
        fix = "make it a file that you may read"
        raise UserError(f"cannot be read: {error.strerror}", where=name, fix=fix) from None
    except UnicodeDecodeError:
        raise UserError("is not text in UTF-8", where=name, fix="save it as UTF-8") from None
    return parse(content, shown_as=name)


def parse(content: str, *, shown_as: str) -> dict[str, Tree]:
    """Parse YAML text into a mapping whose leaves stay as typed."""
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark else ""
        hint = "indent with blanks, not with tabs" if "\\t" in str(error) else "mend the YAML at this line"
        raise UserError(f"not valid YAML: {error.problem}", where=f"{shown_as}{line}", fix=hint) from None
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {error}", where=shown_as, fix="take this character out") from None
    if node is None:
        raise UserError("the file is empty", where=shown_as, fix="write at least one `key: value`")
    tree = _convert(node, shown_as)
    if not isinstance(tree, dict):
        fix = "write a mapping: one `key: value` on each line"
        raise UserError("expected `key: value` lines", where=f"{shown_as}:1", fix=fix)
    return tree


def parse_override(text: str) -> dict[str, Tree]:
    """Turn ``training.lr=3e-4`` or ``data.split=[0.8,0.1,0.1]`` into a one-leaf tree."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise UserError(
            f"{text!r} is not an override",
            where=COMMAND_LINE,
            fix="write key.path=value, e.g. training.batch_size=16",
        )
    tree: Tree = _override_value(value.strip())
    for part in reversed(key.strip().split(".")):
        tree = {part: tree}
    return dict(tree)


def merge(base: Tree, over: Tree) -> Tree:
    """Return ``base`` with every leaf and list of ``over`` laid on top."""
    if isinstance(base, dict) and isinstance(over, dict):
        merged = dict(base)
        for key, value in over.items():
            merged[key] = merge(base[key], value) if key in base else value
        return merged
    return over


def plain(tree: Tree) -> Any:
    """Return the tree with its leaves as text, for a schema to convert."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    return tree.text


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Yield (dotted key, leaf) in order."""
    if isinstance(tree, Leaf):
        yield prefix, tree
        return
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))


def origin_of(tree: Tree, key: str) -> str | None:
    """Return where a dotted key was set: its own place, or that of its nearest relative."""
    node = tree
    for part in key.split("."):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            break
    return next((leaf.origin for _, leaf in leaves(node)), None)


def validate(schema: type[Model], tree: Tree, *, section: str = "") -> tuple[Model | None, list[UserError]]:
    """Convert a tree by a pydantic schema; return the value, or every problem with its place."""
    try:
        return schema.model_validate(plain(tree)), []
    except ValidationError as error:
        return None, [_problem(schema, tree, section, detail) for detail in error.errors()]


def problems_of(schema: type[BaseModel], values: Any) -> list[tuple[str, str, str | None]]:
    """Return (key, what, fix) for each way in which plain values break a schema."""
    try:
        schema.model_validate(values)
    except ValidationError as error:
        return [_describe(schema, detail) for detail in error.errors()]
    return []


def dump(tree: Tree, *, with_origins: bool = False) -> str:
    """Write a tree so that ``parse`` reads the same text back."""
    return "".join(_dump_lines(tree, 0, with_origins))


def _convert(node: yaml.Node, name: str) -> Tree:
    where = f"{name}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.ScalarNode):
        is_nothing = node.style is None and node.value in NOTHING
        return Leaf(None if is_nothing else node.value, where)
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, name) for item in node.value]
    tree: dict[str, Tree] = {}
    for key, value in node.value:
        place = f"{name}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise UserError("a key must be a plain word", where=place, fix="write `key: value`")
        if key.value in tree:
            raise UserError(f"{key.value!r} is set twice", where=place, fix="keep one of the two lines")
        tree[key.value] = _convert(value, name)
    return tree


def _override_value(text: str) -> Tree:
    if not text.startswith(("[", "{")):
        return Leaf(None if text in NOTHING else text, COMMAND_LINE)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        raise UserError(f"{text!r} is not a list", where=COMMAND_LINE, fix="write [a, b, c]") from None
    assert node is not None
    return _moved(_convert(node, COMMAND_LINE))


def _moved(tree: Tree) -> Tree:
    if isinstance(tree, dict):
        return {key: _moved(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_moved(value) for value in tree]
    return Leaf(tree.text, COMMAND_LINE)


def _problem(schema: type[BaseModel], tree: Tree, section: str, detail: ErrorDetails) -> UserError:
    key, what, fix = _describe(schema, detail)
    shown = f"{section}.{key}".strip(".")
    return UserError(f"{shown}: {what}" if shown else what, where=origin_of(tree, key), fix=fix)


def _describe(schema: type[BaseModel], detail: ErrorDetails) -> tuple[str, str, str | None]:
    parts = [str(part) for part in detail["loc"]]
    key = ".".join(parts)
    if detail["type"] == "extra_forbidden":
        return key, "unknown key", suggestion(parts[-1], _fields_at(schema, parts[:-1]))
    if detail["type"] == "missing":
        return key, "is missing", f"add a line `{parts[-1]}: ...`"
    if detail["type"] == "value_error":
        return key, str(detail["ctx"]["error"]), None
    what = detail["msg"][0].lower() + detail["msg"][1:]
    value = detail.get("input")
    return key, f"{what}, got {value!r}" if isinstance(value, str) else what, None


def _fields_at(schema: type[BaseModel], parts: list[str]) -> Mapping[str, Any]:
    fields = schema.model_fields
    for part in parts:
        inner = fields[part].annotation if part in fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return {}
        fields = inner.model_fields
    return fields


def _dump_lines(tree: Tree, depth: int, with_origins: bool) -> Iterator[str]:
    blank = "  " * depth
    for key, value in tree.items():
        name = _scalar(key)
        if isinstance(value, dict) and value:
            yield f"{blank}{name}:\n"
            yield from _dump_lines(value, depth + 1, with_origins)
            continue
        origin = next((leaf.origin for _, leaf in leaves(value)), None)
        note = f"  # {origin}" if with_origins and origin else ""
        yield f"{blank}{name}: {_inline(value)}{note}\n"


def _inline(value: Tree) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_inline(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_inline(item)}" for key, item in value.items()) + "}"
    return "null" if value.text is None else _scalar(value.text)


def _scalar(text: str) -> str:
    is_safe = _PLAIN.fullmatch(text) and text not in NOTHING and not text.startswith(("-", "."))
    return (
        text
        if is_safe and not text.endswith(":") and ": " not in text
        else json.dumps(text, ensure_ascii=False)
    )
