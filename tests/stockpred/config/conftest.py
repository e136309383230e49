"""Files of a person's own, found beside those of the packages until a test ends."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

AddFile = Callable[[str, str, str], None]


@pytest.fixture
def add_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AddFile]:
    """Write ``NAME.py`` into a folder of its own, which ``package`` searches as well."""
    added: list[str] = []

    def add(package: str, name: str, content: str) -> None:
        folder = tmp_path / package
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(content)
        module = importlib.import_module(package)
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(folder)])
        importlib.invalidate_caches()
        added.append(f"{package}.{name}")

    yield add
    for name in added:
        sys.modules.pop(name, None)
