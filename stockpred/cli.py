"""The ``stockpred`` command. Commands import what they need only when they run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from hpc.errors import ExitCode, UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train, evaluate and report market models. Usually called by `hpc`, inside a job."""


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def check(as_json: bool) -> None:
    """Check experiments given as JSON {"trees": [...]} on stdin."""
    from stockpred.check import problems_of

    problems = [problems_of(tree) for tree in json.load(sys.stdin)["trees"]]
    if as_json:
        click.echo(json.dumps({"problems": problems}))
        return
    for problem in (problem for found in problems for problem in found):
        click.echo(f"{problem['key']}: {problem['what']}")
    sys.exit(ExitCode.USAGE if any(problems) else ExitCode.OK)


@cli.command()
def size() -> None:
    """Count the parameters of the models of experiments, given as a JSON list of trees on stdin."""
    from stockpred.size import num_parameters_of

    click.echo(json.dumps([num_parameters_of(tree) for tree in json.load(sys.stdin)]))


@cli.command()
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
def train(run_dir: Path) -> None:
    """Run one rank of the training job of RUN_DIR until done, stopped or out of time."""
    from stockpred.run import run_job

    exit_code = run_job(run_dir)
    sys.stdout.flush()
    sys.stderr.flush()
    # Torch takes seconds to take itself apart, and everything that matters is on disk.
    os._exit(exit_code)


@cli.command()
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
def report(run_dir: Path) -> None:
    """Write RUN_DIR/report.html again from the run's files."""
    from hpc.paths import RunPaths
    from stockpred.report.build import build_report

    click.echo(build_report(RunPaths(run_dir)))


def main() -> None:
    """Run the command; say mistakes in one line each, without a traceback."""
    try:
        cli(standalone_mode=True)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
