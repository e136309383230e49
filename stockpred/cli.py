"""The ``stockpred`` command. Commands import what they need only when they run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from hpc.base.errors import UserError
from hpc.base.text import count
from stockpred import cli_fetch


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train, evaluate and report market models. Usually called by `hpc`, inside a job."""


@cli.command(hidden=True)
def answer() -> None:
    """Answer the launcher's question, JSON on stdin, by JSON (hpc/plan/program.py)."""
    from stockpred.answers import answer as answer_question

    click.echo(json.dumps(answer_question(json.load(sys.stdin))))


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("target", metavar="CASE|RUN_DIR")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE|OPTION]...")
def train(target: str, argv: tuple[str, ...]) -> None:
    """Train CASE without a launcher, or run one rank of the job of RUN_DIR.

    \b
    stockpred train per_stock --data ../bars --only AAPL
    torchrun --nproc-per-node 2 -m stockpred train per_stock --preset demo

    With a CASE, the options and settings are those of `hpc submit`: --preset, --data, --only, KEY=VALUE.
    Its runs are trained one after the other, by as many ranks as were started; the same command continues.
    """
    if argv or not (Path(target) / "plan.json").is_file():
        from stockpred.standalone import train_case

        exit_code = train_case(target, argv)
    else:
        from stockpred.run import run_job

        exit_code = run_job(Path(target))
    sys.stdout.flush()
    sys.stderr.flush()
    # Torch takes seconds to take itself apart, and everything that matters is on disk.
    os._exit(exit_code)


@cli.command()
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
def report(run_dir: Path) -> None:
    """Write RUN_DIR/report.html again from the run's files."""
    from hpc.run.paths import RunPaths
    from stockpred.report.build import build_report

    click.echo(build_report(RunPaths(run_dir)))


@cli.command("open-test")
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
def open_test(run_dir: Path) -> None:
    """Score the sealed test of a finished run, once; the look is counted in runs/test_looks.jsonl."""
    from hpc.run.paths import RunPaths
    from stockpred.unsealing import open_test as unseal

    for line in unseal(RunPaths(run_dir.resolve())):
        click.echo(line)


@cli.group()
def data() -> None:
    """Fetch bars, and bring them into other files."""


data.add_command(cli_fetch.fetch)


@data.command()
@click.argument("universe", type=click.Path(path_type=Path))
@click.option(
    "--data", "data_dir", required=True, metavar="DIR", help="Where the bars are: a folder or a file."
)
@click.option(
    "--npz",
    "out_dir",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder to write into.",
)
@click.option("--symbol", "symbols", multiple=True, help="Only this asset; may be given again.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def export(universe: Path, data_dir: str, out_dir: Path, symbols: tuple[str, ...], force: bool) -> None:
    """Write the bars of UNIVERSE (a CSV) as training reads them: adjusted, one .npz per asset."""
    from stockpred.data.export import export_npz

    num_files = num_bars = 0
    for written in export_npz(universe, data_dir, out_dir, symbols=symbols, may_replace=force):
        num_files, num_bars = num_files + 1, num_bars + written.num_bars
        click.echo(str(written))
    click.echo(f"{count(num_files, 'file')} in {out_dir}, {count(num_bars, 'bar')}")


@cli.command()
@click.argument(
    "run_dirs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--out", "prefix", metavar="PREFIX", required=True, type=click.Path(path_type=Path))
def summary(run_dirs: tuple[Path, ...], prefix: Path) -> None:
    """Put runs of one task beside their rivals: a table, PREFIX.csv and PREFIX.html."""
    from stockpred.report.summary.build import summarise

    found = summarise(run_dirs, prefix)
    click.echo(found.text)
    sys.exit(found.exit_code)


def main() -> None:
    """Run the command; print each mistake without a traceback."""
    try:
        cli(standalone_mode=True)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
