"""Ranks as processes of their own that need not import torch: they are forked from one that has.

They differ from ranks that a launcher starts in nothing else; hundreds of them are started in these tests.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOADED = [
    *("torch._dynamo", "torch.nn.parallel", "torch.distributed", "pandas", "matplotlib.figure"),
    *("stockpred.run", "stockpred.train.core", "stockpred.report.build"),
]
"""What a rank, and the report after it, take seconds to import."""

LIMIT_S = 600.0
"""Nothing waits for it to pass: it ends what hangs."""


class Rank:
    """A forked process that runs a program; it has what is used here of ``subprocess.Popen``."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        descriptor, name = tempfile.mkstemp(prefix="rank-")
        os.close(descriptor)
        self.output = Path(name)
        self.process = _context().Process(target=_run, args=(list(command), str(cwd), dict(env), name))
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.process), timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Wait for the end; return all that was written to stdout and stderr."""
        self.wait(timeout)
        text = self.output.read_text() if self.output.exists() else ""
        return text, None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def terminate(self) -> None:
        self.process.terminate()

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.output.unlink()


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _run(command: list[str], cwd: str, environ: dict[str, str], output: str) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    _begin_like_python(environ.get("PYTHONPATH", ""))
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).parent))
    runpy.run_path(command[0], run_name="__main__")


def _begin_like_python(search_path: str) -> None:
    """Put the search path first and run the first ``sitecustomize.py`` on it, as a new Python does."""
    folders = [folder for folder in search_path.split(os.pathsep) if folder]
    sys.path[:0] = folders
    for folder in folders:
        if (Path(folder) / "sitecustomize.py").exists():
            runpy.run_path(str(Path(folder) / "sitecustomize.py"))
            return


def run(script: str, *arguments: str, cwd: Path, env: Mapping[str, str]) -> tuple[int, str]:
    """Run a Python script to its end in a process of its own; return its exit code and output."""
    path = cwd / "script.py"
    path.write_text(script)
    rank = Rank([str(path), *arguments], cwd=cwd, env=env)
    output, _ = rank.communicate(LIMIT_S)
    assert rank.returncode is not None
    return rank.returncode, output
