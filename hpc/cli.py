"""The ``hpc`` command: arguments in, calls out. No logic, and nothing slow is imported before it is used."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hpc.base.errors import ExitCode, UserError, keep_failure

if TYPE_CHECKING:
    from hpc.plan.from_args import PlanRequest
    from hpc.run.find import Run

EXAMPLES = """Train market models on a Slurm cluster, or on this machine where there is none.

\b
hpc submit crypto                              submit a case; again = continue it
hpc submit crypto --dry-run                    print the script that would be sent
hpc submit crypto training.batch_size=16       change any setting
hpc submit crypto --preset small --wait        a smaller one; follow it to its end
hpc status                                     all runs in one table
hpc logs crypto --follow                       its log, across restarts
"""


class Commands(click.Group):
    """Commands in the order in which people need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


_only = click.option(
    "--only", default=None, metavar="NAME,...", help="Only these runs of an array, by their values."
)


@click.group(cls=Commands, help=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    ctx.obj = debug


def _plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments that choose a plan; the command gets them as one ``PlanRequest``."""

    @functools.wraps(command)
    def with_request(**options: Any) -> None:
        command(_take_request(options), **options)

    for option in (
        click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
        click.argument("case", required=False),
        click.option(
            "--preset", default=None, help="table (default), small, demo, or one of the case's own."
        ),
        click.option(
            "--data", default=None, metavar="DIR", help="Read the data from DIR; short for data.dir=DIR."
        ),
        _only,
        click.option(
            "--cluster", default=None, envvar="HPC_CLUSTER", help="A layer of slurm/clusters/NAME.yaml."
        ),
        click.option(
            "--fresh", is_flag=True, help="Start a new run although one with this configuration exists."
        ),
    ):
        with_request = option(with_request)
    return with_request


def _take_request(options: dict[str, Any], case: str | None = None) -> PlanRequest:
    """Take the options that choose a plan out of a command's options."""
    from hpc.plan.config import TABLE
    from hpc.plan.from_args import PlanRequest
    from hpc.run.find import split_names

    return PlanRequest(
        case=options.pop("case", case),
        preset=options.pop("preset") or TABLE,
        overrides=tuple(options.pop("overrides", ())),
        data=options.pop("data", None),
        only=split_names(options.pop("only", None)),
        cluster=options.pop("cluster", None),
        fresh=options.pop("fresh", False),
    )


@cli.command()
@_plan_options
@click.option("--local", is_flag=True, help="Run as processes of this machine even where there is a Slurm.")
@click.option(
    "--dry-run", is_flag=True, help="Print the script that would be sent, byte for byte; do nothing."
)
@click.option("--wait", is_flag=True, help="Follow the run to its end and exit with its result.")
@click.option("--yes", is_flag=True, help="For scripts; a single case is submitted without a question.")
def submit(request: PlanRequest, local: bool, dry_run: bool, wait: bool, yes: bool) -> None:
    """Submit CASE; a run that is alive is left alone, one that was interrupted continues."""
    _submit([request], local=local, dry_run=dry_run, wait=wait, is_agreed=lambda: True)


@cli.command("submit-all")
@click.argument("cases", nargs=-1, required=True)
@click.option("--preset", default=None, help="The preset of all of the cases.")
@click.option("--data", default=None, metavar="DIR", help="Read the data from DIR.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting for all cases.")
@click.option("--cluster", default=None, envvar="HPC_CLUSTER", help="A layer of slurm/clusters/NAME.yaml.")
@click.option("--fresh", is_flag=True, help="Start new runs although some with this configuration exist.")
@click.option("--local", is_flag=True, help="Run as processes of this machine.")
@click.option("--dry-run", is_flag=True, help="Print the scripts that would be sent; do nothing.")
@click.option("--wait", is_flag=True, help="Follow all runs to their end.")
@click.option("--yes", is_flag=True, help="Submit without asking.")
def submit_all(
    cases: tuple[str, ...], local: bool, dry_run: bool, wait: bool, yes: bool, **options: Any
) -> None:
    """Check several CASES, show the cluster and the sum, ask, and submit them side by side."""
    requests = [_take_request(dict(options), case) for case in cases]
    is_agreed = functools.partial(_is_agreed, yes, len(requests))
    _submit(requests, local=local, dry_run=dry_run, wait=wait, is_agreed=is_agreed)


def _submit(
    requests: Sequence[PlanRequest], *, local: bool, dry_run: bool, wait: bool, is_agreed: Callable[[], bool]
) -> None:
    from hpc.commands.follow import follow_launch
    from hpc.commands.launch import launch, what_submit_would_do
    from hpc.monitor import tables
    from hpc.plan import program
    from hpc.plan.from_args import checked_plans

    checked = checked_plans(requests, () if dry_run else program.SUBMIT)
    plans = [one.plan for one in checked]
    if dry_run:
        tables.result("\n".join(plan.script for plan in plans))
        tables.talk(what_submit_would_do(plans, locally=local))
        return
    launched = launch(checked, locally=local, is_agreed=is_agreed)
    if wait:
        sys.exit(follow_launch(plans, launched))


@cli.command()
@_plan_options
def render(request: PlanRequest) -> None:
    """Print CASE's sbatch script; `hpc render CASE > j.sh && sbatch j.sh` does all that a submit does."""
    from hpc.attempt.submit import make_log_directory
    from hpc.monitor import tables
    from hpc.plan.from_args import plan_from

    plan = plan_from(request)
    make_log_directory(plan.paths)  # Slurm starts no job whose log has no place
    tables.result(plan.script)


@cli.command()
@_plan_options
def config(request: PlanRequest) -> None:
    """Print CASE's resolved configuration, each value with the place that set it."""
    from hpc.monitor import tables
    from hpc.plan.from_args import plan_from

    tables.result(plan_from(request).runs[0].config_text)


@cli.command()
@click.argument("run", required=False)
@_only
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--plain", is_flag=True, help="One tab-separated line per run.")
@click.option("--no-lift", is_flag=True, help="Leave a requeued job's two-minute hold as it is.")
def status(run: str | None, only: str | None, as_json: bool, plain: bool, no_lift: bool) -> None:
    """Say how the runs are doing; start requeued jobs that Slurm holds back."""
    from hpc.monitor import tables
    from hpc.monitor.status import Watcher

    views = Watcher(lifts_holds=not no_lift).look(_runs(run, only))
    tables.show_views(views, as_json=as_json, plain=plain)


@cli.command()
@click.argument("run", required=False)
@_only
@click.option("-f", "--follow", is_flag=True, help="Go on, across restarts, until the run is over.")
@click.option("-n", "--lines", "number", default=50, show_default=True, help="Begin with the last N lines.")
@click.option("--rank", default=0, show_default=True, help="The rank whose log to show.")
@click.option("--job", is_flag=True, help="Show the batch shell's log instead of a rank's.")
def logs(run: str | None, only: str | None, follow: bool, number: int, rank: int, job: bool) -> None:
    """Print the log of a run, one file across all of its attempts."""
    from hpc.commands.follow import show_log
    from hpc.run.find import find_root, find_run

    found = find_run(find_root(), run, only)
    sys.exit(show_log(found, number=number, rank=rank, is_batch=job, follows=follow))


@cli.command()
@click.argument("run", required=False)
@_only
@click.option("--once", is_flag=True, help="Print one picture and end.")
@click.option("--every", default=2.0, show_default=True, metavar="SECONDS", help="How often files are read.")
@click.option("--no-lift", is_flag=True, help="Leave a requeued job's two-minute hold as it is.")
def monitor(run: str | None, only: str | None, once: bool, every: float, no_lift: bool) -> None:
    """Watch the runs; Ctrl-C ends the watching, not the runs."""
    from hpc.monitor import tables
    from hpc.monitor.status import Watcher

    watcher = Watcher(lifts_holds=not no_lift)
    tables.watch(lambda: watcher.look(_runs(run, only)), every_s=every, once=once)


@cli.command()
@click.argument("run", required=False)
@_only
def cancel(run: str | None, only: str | None) -> None:
    """Stop a run: it saves, leaves and does not come back until it is submitted again."""
    from hpc.commands import cancel as command

    command.cancel(run, only)


@cli.command()
@click.argument("run", required=False)
@_only
def report(run: str | None, only: str | None) -> None:
    """Write a run's report again from its files."""
    from hpc.commands import results
    from hpc.run.find import find_root, matching

    for found in matching(find_root(), run, only)[-1 if only is None else 0 :]:
        results.report(found)


@cli.command()
@click.argument("case", required=False)
@click.option("--preset", default=None, help="The preset of the runs; by default that of the newest.")
def summary(case: str | None, preset: str | None) -> None:
    """Put the results of CASE's runs side by side, beside their rivals: table, CSV, HTML."""
    from hpc.commands.results import summarise

    sys.exit(summarise(case, preset))


@cli.command()
@click.option("--preset", default="demo", show_default=True)
@click.option("--case", default="crypto", show_default=True)
@click.option("--local", is_flag=True)
def demo(case: str, preset: str, local: bool) -> None:
    """Show the whole way: train on two ranks, interrupt once, resume, report."""
    from hpc.commands import demo as command

    sys.exit(command.demo(case, preset, locally=local))


@cli.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.option("--case", required=True)
@click.option("--run-id", required=True)
@click.option("--array", default=None)
@click.option("--preset", default=None)
@click.option("--cluster", default=None)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
def attempt(run_id: str, array: str | None, argv: Sequence[str], **options: Any) -> None:
    """What the batch script runs: [KEY=VALUE]... -- srun ..., one attempt of a run."""
    from hpc.commands import inside_job

    sys.exit(inside_job.attempt(_take_request(options), run_id, array, argv))


@cli.command("write-runs", hidden=True)
@_plan_options
@click.option("--names-only", is_flag=True)
def write_runs(request: PlanRequest, names_only: bool) -> None:
    """What `stockpred train CASE` asks: the runs of the case, which it writes, and the deadline."""
    from hpc.commands.inside_job import runs_to_train
    from hpc.monitor import tables

    tables.result(runs_to_train(request, is_writing=not names_only))


@cli.command("start-local", hidden=True)
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
def start_local(run_dir: Path) -> None:
    """What a local submit runs in a session of its own."""
    from hpc.attempt.executors import start_run
    from hpc.run.find import find_root
    from hpc.run.paths import RunPaths

    start_run(RunPaths(run_dir.absolute()), find_root())


@cli.command("start-pool", hidden=True)
@click.argument("array_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("run_ids", nargs=-1, required=True)
def start_pool(array_dir: Path, run_ids: Sequence[str]) -> None:
    """What a local submit of an array runs in a session of its own."""
    from hpc.attempt import executors
    from hpc.run.find import find_root
    from hpc.run.paths import RunPaths

    executors.start_pool(RunPaths(array_dir.absolute()), find_root(), run_ids)


@cli.command("run-local", hidden=True)
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--array", required=True)
@click.option("--at-once", type=int, required=True)
def run_local(run_dir: Path, array: str, at_once: int) -> None:
    """What a pool starts for each of its runs."""
    from hpc.commands import inside_job

    inside_job.run_local(run_dir.absolute(), array, at_once)


def _runs(wanted: str | None, only: str | None) -> list[Run]:
    from hpc.run.find import all_runs, find_root, matching

    root = find_root()
    return matching(root, wanted, only) if wanted or only else all_runs(root)


def _is_agreed(is_agreed_before: bool, num_plans: int) -> bool:
    if is_agreed_before:
        return True
    if not sys.stdin.isatty():
        raise UserError("nobody is here to be asked", fix="add --yes", exit_code=ExitCode.REFUSED)
    return click.confirm(f"Submit {num_plans} cases?")


def main() -> None:
    """Run the command; what goes wrong is one message and an exit code, a traceback only for --debug."""
    try:
        cli(standalone_mode=False)
    except UserError as error:
        _fail(error)
    except click.exceptions.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        _fail(_unexpected(error))


def _fail(error: UserError) -> NoReturn:
    label = click.style("error", fg="red", bold=True) if sys.stderr.isatty() else "error"
    click.echo(f"{label}: {error}", err=True)
    if "--debug" in sys.argv:
        traceback.print_exc()
    sys.exit(error.exit_code)


def _unexpected(error: Exception) -> UserError:
    """Keep the traceback of an error that nobody foresaw; return what to tell a person of it."""
    from hpc.run.find import find_root
    from hpc.run.paths import RUNS

    try:
        folder = find_root() / RUNS
    except UserError:
        folder = Path()
    log = keep_failure(folder, traceback.format_exc(), command=sys.argv)
    what = f"this should not happen: {type(error).__name__}: {error}"
    fix = "the log has the traceback: report it, with what you typed"
    return UserError(what, where=str(log), fix=fix, exit_code=ExitCode.FAILED)
