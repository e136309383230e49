"""How long the launcher takes to answer and to submit, against the import of torch that it avoids.

python benchmarks/launcher_startup.py [--repeats N]

The submits go to programs that answer like Slurm's and start nothing: what is measured is the launcher. They
are of a case that was submitted before, so its configuration is checked and its model is counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from comparison import in_turns, show

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ROOT / "tests" / "hpc" / "slurm" / "slurm_text"
RIVAL = "python -c 'import torch'"
SUBMIT = ["-m", "hpc", "submit", "crypto", "--preset", "demo"]
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "hpc --help": ["-m", "hpc", "--help"],
    "hpc status": ["-m", "hpc", "status"],
    "hpc submit crypto --dry-run": [*SUBMIT, "--dry-run"],
    "hpc submit crypto": [*SUBMIT, "--fresh"],
    RIVAL: ["-c", "import torch"],
}
SLURM = {
    "sbatch": 'echo "Submitted batch job $$"',
    "squeue": "",
    "sinfo": f'cat "{TEXTS}/sinfo.txt"',
    "scontrol": 'case "$*" in '
    f'*partition) cat "{TEXTS}/partitions.txt";; *config) cat "{TEXTS}/config.txt";; esac',
}


def new_workspace(root: Path) -> None:
    """Copy the cases into ``root``, and write programs that answer like Slurm's."""
    for folder in ("cases", "slurm"):
        shutil.copytree(ROOT / folder, root / folder)
    (root / "bin").mkdir()
    for name, answer in SLURM.items():
        program = root / "bin" / name
        program.write_text(f"#!/bin/sh\n{answer}\n")
        program.chmod(0o755)


def environ(root: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    path = os.pathsep.join([str(root / "bin"), kept.get("PATH", "")])
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(root / "cache")}


def starter(arguments: list[str], root: Path, variables: Mapping[str, str]) -> Callable[[], object]:
    command = [sys.executable, *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return lambda: subprocess.run(command, cwd=root, env=dict(variables), check=True, **quiet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        new_workspace(root)
        variables = environ(root)
        acts = {name: starter(arguments, root, variables) for name, arguments in COMMANDS.items()}
        in_turns(acts, 1)  # fills the page cache, for all alike, and counts the model
        show("start-up", in_turns(acts, repeats), rival=RIVAL)


if __name__ == "__main__":
    main()
