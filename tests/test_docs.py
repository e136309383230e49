"""What the documentation says is so: its commands run, its links lead somewhere, its tree is the tree."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpc.cli import cli
from tests.processes import kill_all_in
from tests.slurm.clusters import NO_SLURM, environment, refuse_without_slurm, running_cluster

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "cases/README.md", "slurm/README.md", "benchmarks/README.md")
RUN_BY_ANOTHER_TEST = {"slurm/README.md": "tests/slurm/test_slurm_readme.py"}
INSTEAD = {
    "make monitor": "make monitor ARGS=--once",  # it goes on for as long as a run does
    "make test": "make --dry-run test",  # it would run this test
    "make test-long": "make --dry-run test-long",
    "make check": "make --dry-run check",  # .ci/run does
    **{
        f"stockpred data fetch {words}": "stockpred data fetch --help"  # it needs the internet
        for words in (
            "crypto --out ../bars",
            "per_stock --out ../bars --from 2005-01-01 --to 2024-06-28 --symbols AAPL,MSFT",
            "crypto --interval 1m --source binance --out ../minute_bars",
        )
    },
}
"""What is run in the place of a command that cannot be run as it stands."""

COMMAND_TIMEOUT_S = 600
LEAVE_S = 600
"""Nothing waits for these to pass: they end what hangs."""

NOT_PACKAGES = {"__pycache__"}


@dataclass(frozen=True)
class Command:
    """One line to type, the document it stands in and the heading above it."""

    document: str
    heading: str
    text: str

    @property
    def needs_slurm(self) -> bool:
        return "Slurm" in self.heading


def fenced(text: str, language: str) -> Iterator[tuple[str, str]]:
    """Yield (heading above, content) of each fenced block of a language."""
    heading, block, fence = "", [""], None
    for line in text.splitlines():
        if line.startswith("```"):
            if fence == language:
                yield heading, "\n".join(block)
            fence, block = (line[3:].strip() if fence is None else None), []
        elif fence is not None:
            block.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")


def commands(document: str) -> list[Command]:
    return [
        Command(document, heading, command)
        for heading, block in fenced((ROOT / document).read_text(), "sh")
        for line in block.splitlines()
        if (command := re.sub(r"(^|\s{2,})#.*", "", line).strip())
    ]


COMMANDS = [
    command
    for document in DOCUMENTS
    if document not in RUN_BY_ANOTHER_TEST and document != "benchmarks/README.md"
    for command in commands(document)
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a copy of the project, with this environment in the place of the one that make would set up."""
    root = tmp_path_factory.mktemp("docs") / "project"
    for folder in ("cases", "slurm", ".ci"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns(".*cache", "__pycache__"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, root)
    (root / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".ready":
            (root / ".venv" / entry.name).symlink_to(entry)
    (root / ".venv" / ".ready").touch()
    write_bars(root.parent / "bars", root / "cases" / "crypto" / "universe.csv", "2020-01-01", "2022-06-18")
    write_bars(
        root.parent / "bars", root / "cases" / "per_stock" / "universe.csv", "2018-01-01", "2024-06-28"
    )
    yield root
    try:
        wait_until_nothing_runs(root)
    finally:
        kill_all_in(root)


def write_bars(folder: Path, universe: Path, first: str, last: str) -> None:
    """Write a random walk for each asset of a universe, as a folder of bars that somebody might have."""
    folder.mkdir(exist_ok=True)
    dates = pd.date_range(first, last).strftime("%Y-%m-%d")
    num_days = len(dates)
    symbols = pd.read_csv(universe, dtype=str, keep_default_na=False)["symbol"]
    rng = np.random.default_rng(0)
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, num_days)))
        before = np.concatenate([[100.0], close[:-1]])
        bars = pd.DataFrame(
            {
                "date": dates,
                "open": before,
                "high": np.maximum(before, close) * 1.01,
                "low": np.minimum(before, close) * 0.99,
                "close": close,
                "volume": rng.integers(1000, 9000, num_days),
            }
        )
        bars.to_csv(folder / f"{symbol}.csv", index=False)


def environ(root: Path, base: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of somebody in the project; without a Slurm unless ``base`` has one."""
    base = {**os.environ, **NO_SLURM} if base is None else base
    kept = {name: value for name, value in base.items() if not name.startswith(("MAKE", "MFLAGS", "HPC_"))}
    return {
        **kept,
        "PATH": f"{root}/.venv/bin:{kept['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


def run(root: Path, text: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", INSTEAD.get(text, text)],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def run_all(root: Path, chosen: list[Command], env: dict[str, str]) -> dict[str, str]:
    """Run commands in order; return what each said, and fail at the first that fails."""
    said: dict[str, str] = {}
    for command in chosen:
        done = run(root, command.text, env)
        said[command.text] = done.stdout + done.stderr
        assert done.returncode == 0, f"{command.document}: {command.text}\n{said[command.text][-3000:]}"
    return said


def wait_until_nothing_runs(root: Path) -> None:
    deadline = time.monotonic() + LEAVE_S
    while True:
        listed = run(root, "hpc status --json", environ(root)).stdout
        views = json.loads(listed) if listed.startswith("[") else []
        busy = [view["run"] for view in views if view["executor"] == "local" and is_busy(view["state"])]
        if not busy:
            return
        assert time.monotonic() < deadline, f"still there: {busy}"
        time.sleep(0.3)


def is_busy(state: str) -> bool:
    return state not in ("finished", "failed", "cancelled", "lost")


def finished_runs(root: Path) -> list[Path]:
    return [path.parent for path in root.glob("runs/*/*/report.html")]


@pytest.fixture(scope="module")
def said_here(workspace: Path) -> dict[str, str]:
    """Run every command that needs no Slurm, in the order of the documents; return what each said."""
    chosen = [command for command in COMMANDS if not command.needs_slurm]
    return run_all(workspace, chosen, environ(workspace))


def test_every_command_of_the_documents_runs(said_here: dict[str, str]) -> None:
    assert re.search(r"^attempt 2: .* ended by finished", said_here["make demo"], re.MULTILINE)


def test_the_run_directory_holds_what_the_readme_names(workspace: Path, said_here: dict[str, str]) -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme.split("## Where the results are")[1].split("\n## ")[0]
    named = [
        name.strip("`/")
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`[\w./]+`", line.split("|")[1])
    ]

    assert len(named) > 10
    for directory in finished_runs(workspace):
        assert [name for name in named if not (directory / name).exists()] == []


@pytest.mark.slurm
def test_every_command_for_slurm_runs(workspace: Path) -> None:
    refuse_without_slurm()
    chosen = [command for command in COMMANDS if command.needs_slurm]
    with running_cluster("docs", "--no-accounting") as cluster:
        said = run_all(workspace, chosen, environ(workspace, environment(cluster.dir)))

    assert any("Submitted batch job" in text for text in said.values())
    assert re.search(r"^full_market/.*\tjob \d+", said["make status"], re.MULTILINE)


def test_every_block_is_run_by_a_test() -> None:
    assert {command.document for command in COMMANDS} == {"README.md", "cases/README.md"}
    for document, test in RUN_BY_ANOTHER_TEST.items():
        assert document.split("/")[0] in (ROOT / test).read_text()
    texts = {command.text for command in COMMANDS}
    assert set(INSTEAD) <= texts


def test_the_benchmarks_that_are_named_exist() -> None:
    named = re.findall(r"benchmarks/(\w+\.py)", (ROOT / "benchmarks" / "README.md").read_text())
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")} - {"comparison.py"}

    assert set(named) == scripts


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]

    missing = [
        target for target in targets if not ((ROOT / document).parent / target.partition("#")[0]).exists()
    ]
    assert missing == []


def tree_paths() -> list[str]:
    """Return the paths of the README's annotated tree, folders with a slash at the end."""
    (block,) = (
        block for heading, block in fenced((ROOT / "README.md").read_text(), "") if heading == "What is where"
    )
    paths, parent = [], ""
    for line in block.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            parent = name if name.endswith("/") else ""
            paths.append(name)
        else:
            paths.append(parent + name)
    return paths


def test_the_tree_names_only_what_exists() -> None:
    paths = tree_paths()

    wrong = [
        path for path in paths if not (ROOT / path).exists() or path.endswith("/") != (ROOT / path).is_dir()
    ]
    assert wrong == []
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("package", ["hpc", "stockpred"])
def test_the_tree_misses_no_module_of_a_package(package: str) -> None:
    files = {f"{package}/{path.name}" for path in (ROOT / package).glob("*.py") if path.name[:2] != "__"}
    folders = {
        f"{package}/{path.name}/"
        for path in (ROOT / package).iterdir()
        if path.is_dir() and path.name not in NOT_PACKAGES and list(path.glob("*.py"))
    }

    assert files | folders <= set(tree_paths())


def options_in_use() -> list[tuple[str, str]]:
    """Return (command, option) of every `hpc COMMAND ... --option` in the documents."""
    text = "\n".join((ROOT / document).read_text() for document in DOCUMENTS)
    found = {
        (line.group(1), option)
        for line in re.finditer(r"\bhpc ([a-z-]+)([^`\n|&]*)", text)
        if line.group(1) in cli.commands
        for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", line.group(2))
    }
    return sorted(found)


@pytest.mark.parametrize("command", [None, *cli.commands])
def test_help_names_the_options_that_the_documents_use(command: str | None) -> None:
    words = [command] if command else []
    done = subprocess.run(
        [sys.executable, "-m", "hpc", *words, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    used = [option for name, option in options_in_use() if name == command]
    shown = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout)
    assert set(used) <= set(shown)
    if command is None:
        listed = [name for name, known in cli.commands.items() if not known.hidden]
        assert [name for name in listed if not re.search(rf"^  {name}\b", done.stdout, re.MULTILINE)] == []


def test_bare_make_lists_every_target_and_the_documents_use_no_other() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    listed = set(
        re.findall(
            r"^  make ([\w-]+)",
            subprocess.run(
                ["make", "--no-print-directory"],
                cwd=ROOT,
                env=env,
                capture_output=True,
                text=True,
                check=True,
            ).stdout,
            re.MULTILINE,
        )
    )
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    used = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"(?:^|`)make ([a-z][\w-]*)", (ROOT / document).read_text(), re.MULTILINE)
    }

    assert listed == set(phony[1].split())
    assert used <= listed


def test_a_mistyped_variable_is_refused_before_anything_runs() -> None:
    done = subprocess.run(
        ["make", "submit", "CASE=crypto", "EPOCHS=2"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "there is no variable EPOCHS: use CASE PRESET" in done.stderr


LAUNCH = "slurm/launch_parallel.sh"


def test_the_parallel_launch_checks_its_scripts_and_submits_nothing_in_a_dry_run(workspace: Path) -> None:
    before = sorted((workspace / "runs").glob("*/*"))

    done = run(workspace, f"{LAUNCH} --dry-run", environ(workspace))

    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\w+): .* the script is sound", done.stderr, re.MULTILINE) == [
        "full_market",
        "reduced",
    ]
    assert sorted((workspace / "runs").glob("*/*")) == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--presett demo", "there is no option --presett"),
        ("--preset", "--preset needs a value"),
        ("--preset demo crypto nope", "there is no case 'nope'"),
        ("--preset demo --local crypto reduced", "add --yes"),
    ],
)
def test_the_parallel_launch_says_what_is_wrong(workspace: Path, words: str, complaint: str) -> None:
    done = run(workspace, f"{LAUNCH} {words} </dev/null", environ(workspace))

    assert done.returncode in (2, 3)
    assert complaint in done.stderr


def test_the_parallel_launch_finds_a_broken_script(workspace: Path) -> None:
    shutil.copytree(workspace / "cases" / "crypto", workspace / "cases" / "broken")
    try:
        with (workspace / "cases" / "broken" / "job.sbatch.j2").open("a") as file:
            file.write("{% block setup %}if true; do{% endblock %}\n")

        done = run(workspace, f"{LAUNCH} --preset demo --yes broken", environ(workspace))
    finally:
        shutil.rmtree(workspace / "cases" / "broken")

    assert done.returncode == 2
    assert "the script of broken is broken" in done.stderr
    assert not (workspace / "runs" / "broken").exists()


def test_the_parallel_launch_trains_its_cases_side_by_side(workspace: Path) -> None:
    tiny = "--set training.epochs=1 --set data.synthetic.num_bars=300 --set resources.gpus=1"
    shutil.copytree(workspace / "cases" / "crypto", workspace / "cases" / "second")
    try:
        words = f"--preset demo {tiny} --local --yes --wait crypto second"
        done = run(workspace, f"{LAUNCH} {words}", environ(workspace))
    finally:
        shutil.rmtree(workspace / "cases" / "second")

    assert done.returncode == 0, done.stderr
    reports = [Path(path) for path in re.findall(r"^report: (.*)$", done.stdout, re.MULTILINE)]
    assert sorted(path.parent.parent.name for path in reports) == ["crypto", "second"]
    assert all(path.is_file() for path in reports)


def test_the_parallel_launch_is_clean_bash() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    subprocess.run(["shellcheck", str(ROOT / LAUNCH)], check=True)
