"""A YAML file as values: ``Config.from_file('config.yaml').training.lr``. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpc.base import yamlfile
from hpc.base.errors import UserError
from hpc.base.text import suggestion
from hpc.base.yamlfile import Leaf, Tree

WORDS = {"true": True, "True": True, "false": False, "False": False}
INTEGER = re.compile(r"[-+]?(0|[1-9]\d*)")
NUMBER = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?")
NOT_OF_AN_EXPERIMENT = ("extends", "presets")


class Config(Mapping[str, Any]):
    """The values of a YAML file, read by attribute or by key; sections are ``Config`` themselves.

    Numbers, ``true`` and ``false`` are converted, every other word stays as typed: a ticker ON is "ON".
    """

    def __init__(self, tree: dict[str, Tree], path: Path) -> None:
        self._tree = tree
        self._path = path

    @classmethod
    def from_file(cls, path: str | Path) -> Config:
        """Read a file of one's own, a run's ``config.yaml`` or a case's, with the layers that it extends.

        Raises UserError with file:line for what is not such a file.
        """
        path = Path(path)
        tree = yamlfile.load(path)
        if "extends" in tree:
            tree = yamlfile.merge(_layers_below(path, tree), tree)
        return cls({key: value for key, value in tree.items() if key not in NOT_OF_AN_EXPERIMENT}, path)

    @property
    def tree(self) -> dict[str, Tree]:
        """The values as typed, each with its file and line."""
        return self._tree

    @property
    def path(self) -> Path:
        return self._path

    def origin(self, key: str) -> str | None:
        """Return file:line of a dotted key."""
        return yamlfile.origin_of(self._tree, key)

    def __getitem__(self, key: str) -> Any:
        return _value(self._tree[key], self._path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying and pickling look for methods before there is a tree
            raise AttributeError(name)
        if name not in self._tree:
            raise AttributeError(f"{self._path} has no {name!r}: {suggestion(name, self._tree)}")
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tree)

    def __len__(self) -> int:
        return len(self._tree)

    def __repr__(self) -> str:
        return f"Config({dict(self)!r})"


def _layers_below(path: Path, tree: dict[str, Tree]) -> Tree:
    """Return ``_base/config.yaml`` with the layer that a case extends laid over it."""
    folder = path.resolve().parent.parent / "_base"
    layer = tree["extends"]
    name = layer.text if isinstance(layer, Leaf) else None
    known = [file.stem for file in folder.glob("*.yaml") if file.stem != "config"]
    if name not in known:
        raise UserError(
            f"extends {name!r}, which is not a layer of {folder}",
            where=yamlfile.origin_of(tree, "extends"),
            fix=suggestion(str(name), known),
        )
    return yamlfile.merge(yamlfile.load(folder / "config.yaml"), yamlfile.load(folder / f"{name}.yaml"))


def _value(tree: Tree, path: Path) -> Any:
    if isinstance(tree, dict):
        return Config(tree, path)
    if isinstance(tree, list):
        return [_value(item, path) for item in tree]
    return _scalar(tree.text)


def _scalar(text: str | None) -> str | int | float | bool | None:
    if text is None or text in WORDS:
        return WORDS.get(text) if text else None
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if NUMBER.fullmatch(text) and not re.fullmatch(r"[-+]?0\d+", text) else text
