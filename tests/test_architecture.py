"""The shape of the code: which room may import which, how long things get, who prints and starts processes.

A room is a folder of a package. Files are found by listing, imports by reading the syntax tree (those inside
functions count), so a new file is held to the rules of its room without being written down here.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import quantiles

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hpc", "stockpred")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = {"median": 10, "p90": 30, "longest": 60}

# From the ground up, rooms of one line beside each other: a room imports only from the lines before its own.
# What lies in no folder is the package's top: it may import every room, and no room imports it.
ROOMS = {
    "hpc": ("base", "run slurm", "plan", "attempt", "monitor", "commands"),
    "stockpred": ("config", "data models", "train", "learners", "score", "report", "tasks"),
}
FOR_RUNNING_JOBS = ("hpc.base", "hpc.run")
"""What training may take from the launcher."""

HEAVY = {"torch", "numpy", "pandas", "matplotlib", "pyarrow", "stockpred"}
MAY_START_PROCESSES = {"hpc/base/shell.py"}
MAY_PRINT = {
    "hpc/monitor/tables.py",
    "hpc/cli.py",
    "stockpred/cli.py",
    "stockpred/standalone.py",
    "stockpred/train/tracking.py",
}

FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), filename=str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every imported name, as deep as it can be known to be a module, with its line."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by the full name"
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield (deeper if deeper in MODULES else str(node.module), node.lineno)


def own_imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the imports that name one of our modules, with their lines."""
    return ((name, line) for name, line in imports(path) if name.split(".")[0] in PACKAGES)


def level(module: str) -> int:
    """Return how high the room of a module lies in its package; the top lies above all rooms."""
    package, *rest = module.split(".")
    rooms = ROOMS[package]
    is_top = len(rest) < 2 and not (ROOT / package / (rest or [""])[0] / "__init__.py").exists()
    room = None if is_top or not rest else rest[0]
    if room is None:
        return len(rooms)
    found = [number for number, names in enumerate(rooms) if room in names.split()]
    assert found, f"{module} lies in no known room: write {room!r} into ROOMS of {Path(__file__).name}"
    return found[0]


def are_beside(module: str, name: str) -> bool:
    """Say whether two modules lie in different rooms of one line."""
    return level(module) == level(name) < len(ROOMS[module.split(".")[0]]) and (
        module.split(".")[1] != name.split(".")[1]
    )


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def num_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def test_there_is_something_to_look_at() -> None:
    assert {"hpc.base.errors", "hpc.cli", "stockpred.cli"} <= set(MODULES)


def test_a_room_imports_only_from_rooms_below_it() -> None:
    wrong = [
        f"{path}:{line}: {name} lies above {module}"
        for module, path in MODULES.items()
        for name, line in own_imports(path)
        if name.split(".")[0] == module.split(".")[0]
        and (level(name) > level(module) or are_beside(module, name))
    ]

    assert wrong == []


def test_no_import_cycle_even_inside_functions() -> None:
    graph = {module: {name for name, _ in own_imports(path)} for module, path in MODULES.items()}

    order = list(TopologicalSorter(graph).static_order())

    assert set(order) >= set(MODULES)


def test_every_import_of_ours_exists() -> None:
    missing = [
        f"{path}:{line}: {name}" for path in FILES for name, line in own_imports(path) if name not in MODULES
    ]

    assert missing == []


def test_the_launcher_never_imports_what_is_heavy_or_knows_markets() -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for path in FILES
        if path.parts[0] == "hpc"
        for name, line in imports(path)
        if name.split(".")[0] in HEAVY
    ]

    assert wrong == []


def test_training_takes_from_the_launcher_only_what_a_running_job_needs() -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for path in FILES
        if path.parts[0] == "stockpred"
        for name, line in own_imports(path)
        if name.startswith("hpc.") and not name.startswith(FOR_RUNNING_JOBS)
    ]

    assert wrong == []


def test_tasks_do_not_import_each_other() -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for path in FILES
        if path.parts[:2] == ("stockpred", "tasks") and len(path.parts) > 3
        for name, line in own_imports(path)
        if name.startswith("stockpred.tasks.") and name.split(".")[2] != path.parts[2]
    ]

    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_stay_short(path: Path) -> None:
    long = [
        f"{path}:{function.lineno}: {function.name}"
        for function in functions(path)
        if num_lines(function) > MAX_FUNCTION_LINES["longest"]
    ]

    assert len((ROOT / path).read_text().splitlines()) <= MAX_FILE_LINES
    assert long == []


@pytest.mark.parametrize("package", PACKAGES)
def test_most_functions_are_short(package: str) -> None:
    lengths = [num_lines(one) for path in FILES if path.parts[0] == package for one in functions(path)]

    deciles = quantiles(lengths, n=10)

    assert deciles[4] <= MAX_FUNCTION_LINES["median"]
    assert deciles[8] <= MAX_FUNCTION_LINES["p90"]


def test_packages_import_nothing_but_the_standard_library_at_import() -> None:
    wrong = [
        f"{path}:{node.lineno}: {name}"
        for path in FILES
        if path.name == "__init__.py"
        for node in tree(path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
        if name.split(".")[0] not in sys.stdlib_module_names
    ]

    assert wrong == []


def test_one_module_starts_processes() -> None:
    starters = {
        str(path)
        for path in FILES
        if path.parts[0] == "hpc"
        for name, _ in imports(path)
        if name.split(".")[0] in ("subprocess", "multiprocessing", "pty")
    }
    calls = {
        str(path)
        for path in FILES
        if path.parts[0] == "hpc"
        and re.search(
            r"\bos\.(system|popen|fork|forkpty|exec\w+|spawn\w+|posix_spawn\w*)\(", (ROOT / path).read_text()
        )
    }

    assert starters | calls <= MAY_START_PROCESSES


def test_only_the_views_print() -> None:
    printers = {
        str(path)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write")
    }

    assert printers <= MAY_PRINT
