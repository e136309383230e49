"""How long the launcher takes to answer, against the import of torch that it avoids.

python benchmarks/launcher_startup.py [--repeats N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from comparison import in_turns, show

ROOT = Path(__file__).resolve().parents[1]
RIVAL = "python -c 'import torch'"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "hpc --help": ["-m", "hpc", "--help"],
    "hpc status": ["-m", "hpc", "status"],
    "hpc submit crypto --dry-run": ["-m", "hpc", "submit", "crypto", "--dry-run"],
    RIVAL: ["-c", "import torch"],
}


def starter(arguments: list[str]) -> Callable[[], object]:
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    acts = {name: starter(arguments) for name, arguments in COMMANDS.items()}
    in_turns(acts, 1)  # fills the page cache, for all alike
    show("start-up", in_turns(acts, repeats), rival=RIVAL)


if __name__ == "__main__":
    main()
