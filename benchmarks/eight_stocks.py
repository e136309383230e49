"""All eight stocks from nothing to the summary by one command, against a plain loop over the same batches.

python benchmarks/eight_stocks.py [--data DIR] [WORD]...

Ours is `hpc submit per_stock --wait` in a workspace of its own: a pool of processes, each with its start of
torch, its checkpoints, its test and its report, and the summary of all. The rival is what one would write by
hand: one process, one stock after the other, a step of AdamW on each batch, early stopping, nothing on disk.
It reads the bars that ours prepared, takes as many steps, and starts torch once. Without --data the bars are
synthetic, 6000 of each stock. Words are settings, such as model.name=dlinear.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from comparison import seconds, show

ROOT = Path(__file__).resolve().parents[1]
RIVAL = "plain loop"
SYNTHETIC = ("data.source=synthetic", "data.synthetic.num_bars=6000", "data.split=[0.70,0.15,0.15]")
LOOP = """
import sys
from pathlib import Path
import torch
from hpc.base import records
from hpc.run.paths import RunPaths
from stockpred.config import schema
from stockpred.tasks.forecast import task as forecast
from stockpred.train.learner import Networks

for directory in sys.argv[1:]:
    paths = RunPaths(Path(directory))
    settings = schema.load(paths.config).training
    task = forecast.task(schema.load(paths.config), paths)
    model = task.learner.networks["model"]
    networks = Networks({"model": model}, {"model": model})
    adamw = torch.optim.AdamW(model.parameters(), settings.lr, weight_decay=settings.weight_decay)
    num_steps = records.read_json(paths.status)["step"]
    steps_per_epoch = task.stream.num_samples // settings.batch_size
    for step in range(num_steps):
        ((_, loss),) = task.learner.updates(task.stream.batch(step, 0, 1, settings.batch_size), networks)
        adamw.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        adamw.step()
        if step % steps_per_epoch == 0:
            with torch.no_grad():
                for batch in task.stream.evaluation(0, 1, settings.batch_size):
                    task.learner.evaluate(batch, networks)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of bars")
    parser.add_argument("words", nargs="*", metavar="WORD")
    asked = parser.parse_args()
    bars = ("--data", str(asked.data.resolve())) if asked.data else SYNTHETIC
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cases", "slurm"):
            shutil.copytree(ROOT / name, Path(folder) / name)
        submit = [
            sys.executable,
            "-m",
            "hpc",
            "submit",
            "per_stock",
            *bars,
            *asked.words,
            "--local",
            "--wait",
        ]

        def act(command: list[str], output: int | None = subprocess.DEVNULL) -> None:
            subprocess.run(command, cwd=folder, env=environ, check=True, stdout=output, stderr=output)

        ours = seconds(lambda: act(submit))
        runs = sorted(str(path.parent) for path in Path(folder).glob("runs/per_stock/*/best"))
        theirs = seconds(lambda: act([sys.executable, "-c", LOOP, *runs], None))
        show(f"{len(runs)} stocks", {"hpc submit per_stock --wait": [ours], RIVAL: [theirs]}, rival=RIVAL)


if __name__ == "__main__":
    main()
