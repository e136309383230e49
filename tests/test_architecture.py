"""The shape of the code: who may import whom, how long things may get, who may print and start processes.

Files are found by listing, imports by reading the syntax tree (those inside functions count), so a new file
is held to the same rules, and a file whose place is not written down here fails.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hpc", "stockpred")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# Rooms from the ground up. A module imports only from its own room and from rooms before it.
ROOMS = {
    "hpc": (
        "errors text",
        "paths records shell",
        "yamlfile jobenv parse states program",
        "sections ledger stop lease",
        "config",
        "cluster runs estimate verdict scheduler",
        "render plan array preflight supervise planning",
        "local executors submit job",
        "monitor status logs",
        "tables",
        "launch",
        "cli",
        "__main__",
    ),
    "stockpred": (
        "config discover",
        "experiments",
        "schema",
        "data",
        "models check",
        "train",
        "metrics results baselines evaluate",
        "learners",
        "size report",
        "run summary",
        "alone",
        "cli",
        "__main__",
    ),
}
TOOLS_OF_HPC = {"lease", "errors", "paths", "records", "jobenv", "stop", "ledger", "yamlfile", "text"}
HEAVY = {"torch", "numpy", "pandas", "matplotlib", "pyarrow", "stockpred"}
MAY_START_PROCESSES = {"hpc/shell.py"}
MAY_PRINT = {
    "hpc/tables.py",
    "hpc/cli.py",
    "stockpred/cli.py",
    "stockpred/alone.py",
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
    """Yield the imports that name one of our modules; a package without code is none."""
    return (
        (name, line)
        for name, line in imports(path)
        if name.split(".")[0] in PACKAGES and name not in PACKAGES
    )


def room(module: str) -> int:
    package, _, rest = module.partition(".")
    name = rest.split(".")[0]
    found = [level for level, names in enumerate(ROOMS[package]) if name in names.split()]
    assert len(found) == 1, f"{module} has no room: write it into ROOMS of {Path(__file__).name}"
    return found[0]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_is_something_to_look_at() -> None:
    assert {"hpc.errors", "hpc.cli", "stockpred.cli"} <= set(MODULES)


def test_a_module_imports_only_from_rooms_above_it() -> None:
    wrong = [
        f"{path}:{line}: {name} is a room below"
        for module, path in MODULES.items()
        if module not in PACKAGES
        for name, line in own_imports(path)
        if name.split(".")[0] == module.split(".")[0] and room(name) > room(module)
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
        if name.startswith("hpc.") and name.split(".")[1] not in TOOLS_OF_HPC
    ]

    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_stay_short(path: Path) -> None:
    num_lines = len((ROOT / path).read_text().splitlines())
    long = [
        f"{path}:{function.lineno}: {function.name}"
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno + 1 > MAX_FUNCTION_LINES
    ]

    assert num_lines <= MAX_FILE_LINES
    assert long == []


def test_packages_do_no_work_at_import() -> None:
    filled = [str(path) for path in FILES if path.name == "__init__.py" and (ROOT / path).read_text()]

    assert filled == []


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
