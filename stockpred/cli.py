"""The ``stockpred`` command. Commands import what they need only when they run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from hpc.base.errors import ExitCode, UserError
from hpc.base.text import count


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train, evaluate and report market models. Usually called by `hpc`, inside a job."""


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def check(as_json: bool) -> None:
    """Check experiments given as JSON {"trees": [...]} on stdin."""
    from stockpred.answers import problems_of

    problems = [problems_of(tree) for tree in json.load(sys.stdin)["trees"]]
    if as_json:
        click.echo(json.dumps({"problems": problems}))
        return
    for problem in (problem for found in problems for problem in found):
        click.echo(f"{problem['key']}: {problem['what']}")
    sys.exit(ExitCode.USAGE if any(problems) else ExitCode.OK)


@cli.command()
def survey() -> None:
    """Look for the bars of experiments, given as a JSON list of trees on stdin; answer what is wrong."""
    from stockpred.answers import missing_bars

    problems = missing_bars(json.load(sys.stdin))
    click.echo(json.dumps([problem.row for problem in problems]))


@cli.command()
def size() -> None:
    """Count the parameters of the models of experiments, given as a JSON list of trees on stdin."""
    from stockpred.answers import sizes_of

    click.echo(json.dumps(sizes_of(json.load(sys.stdin))))


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("target", metavar="CASE|RUN_DIR")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE|OPTION]...")
def train(target: str, words: tuple[str, ...]) -> None:
    """Train CASE without a launcher, or run one rank of the job of RUN_DIR.

    \b
    stockpred train per_stock --data ../bars --only AAPL
    torchrun --nproc-per-node 2 -m stockpred train per_stock --preset demo

    With a CASE, the options and settings are those of `hpc submit`: --preset, --data, --only, KEY=VALUE.
    Its runs are trained one after the other, by as many ranks as were started; the same command continues.
    """
    if words or not (Path(target) / "plan.json").is_file():
        from stockpred.standalone import train_case

        exit_code = train_case(target, words)
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


@cli.group()
def data() -> None:
    """Bring bars into other files."""


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
    """Run the command; say mistakes in one line each, without a traceback."""
    try:
        cli(standalone_mode=True)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
