"""What slurm/README.md tells people to type works, in the order in which it stands there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.slurm.clusters import COMMAND_TIMEOUT_S, refuse_without_slurm

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]
DEFAULT_CLUSTER = Path("/tmp/devcluster-dev")


def test_every_command_of_the_readme_runs() -> None:
    refuse_without_slurm()
    if DEFAULT_CLUSTER.exists():
        pytest.skip("the default cluster is in use")
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
    assert not DEFAULT_CLUSTER.exists()
