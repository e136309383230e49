"""What slurm/README.md tells people to type works, in the order in which it stands there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.slurm.clusters import COMMAND_TIMEOUT_S, refuse_without_slurm

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]
CLUSTERS = tuple(Path(f"/tmp/devcluster-{name}") for name in ("dev", "second"))
"""What the commands bring up, by names that every suite on this machine shares."""


@pytest.fixture
def sole_use() -> Iterator[None]:
    """Wait for another suite that brings these clusters up; leave alone those of a person."""
    with FileLock("/tmp/devcluster-of-tests.lock", timeout=COMMAND_TIMEOUT_S):
        in_use = [str(path) for path in CLUSTERS if path.exists()]
        if in_use and os.environ.get("REQUIRE_SLURM"):
            pytest.fail(f"REQUIRE_SLURM is set, but {in_use} are up: take them down (slurm/README.md)")
        if in_use:
            pytest.skip(f"{in_use} are up")
        yield


@pytest.mark.usefixtures("sole_use")
def test_every_command_of_the_readme_runs() -> None:
    refuse_without_slurm()
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "slurm" / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "MAKE"))}

    try:
        done = subprocess.run(
            ["bash", "-eux"],
            input="".join(blocks),
            cwd=ROOT,
            env=kept,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    finally:
        for name in ("dev", "second"):
            subprocess.run(
                ["python3", "slurm/devcluster", "down", "--name", name],
                cwd=ROOT,
                capture_output=True,
                check=True,
            )

    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^3 a100-2 \d,\d$", done.stdout, re.MULTILINE)
    assert not any(path.exists() for path in CLUSTERS)
