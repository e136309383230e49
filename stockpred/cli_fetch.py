"""The command ``stockpred data fetch``."""

from __future__ import annotations

import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpc.base import yamlfile
from hpc.base.errors import ExitCode, UserError
from hpc.base.text import count, suggestion
from hpc.run.find import find_root

if TYPE_CHECKING:
    from stockpred.data.fetch.run import Result

MAX_NAMES = 8
DATE = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.argument("case", metavar="CASE|UNIVERSE.csv")
@click.option(
    "--out", "out_dir", required=True, type=click.Path(path_type=Path), help="Folder to write into."
)
@click.option("--symbols", metavar="A,B", help="Only these assets of the universe.")
@click.option(
    "--from",
    "first",
    type=DATE,
    metavar="YYYY-MM-DD",
    help="First date (UTC); without it all that the source has.",
)
@click.option(
    "--to",
    "last",
    type=DATE,
    metavar="YYYY-MM-DD",
    help="Last date (UTC), itself included; without it today.",
)
@click.option("--interval", default="1d", type=click.Choice(["1d", "1h", "1m"]), show_default=True)
@click.option("--source", default="auto", show_default=True, help="yahoo, binance, or auto: Binance first.")
@click.option(
    "--per-minute", type=click.FloatRange(min=0, min_open=True), help="Requests to a source, at most."
)
@click.option("--retries", default=5, type=click.IntRange(min=0), show_default=True, help="Of each request.")
@click.option("--base-url", metavar="URL", help="A mirror of the source.")
def fetch(
    case: str,
    out_dir: Path,
    symbols: str | None,
    first: datetime | None,
    last: datetime | None,
    **options: str | float | int | None,
) -> None:
    """Fetch the bars of CASE's assets, on a machine with internet: a cluster's login node.

    \b
    stockpred data fetch crypto --out bars
    stockpred data fetch per_stock --out bars --from 2005-01-01 --to 2024-06-28 --symbols AAPL,MSFT
    stockpred data fetch crypto --interval 1m --source binance --out minute_bars

    The universe's columns `yahoo` and `binance` hold the symbols there. The same command again goes on after
    an interruption, and later fetches only newer bars. Then: make submit CASE=... DATA=DIR.
    """
    from stockpred.data import universe
    from stockpred.data.fetch import run
    from stockpred.data.fetch.choice import wishes_of

    wishes = wishes_of(first, last, **options)
    chosen = [name.strip() for name in (symbols or "").split(",") if name.strip()]
    assets = universe.read(universe_of(case)).only(chosen, where="--symbols")
    show = _Show()
    try:
        results = [show.result(one) for one in run.fetch(assets, out_dir, wishes, watcher=show)]
    except KeyboardInterrupt:
        show.clear()
        click.echo("interrupted; the same command goes on with what is missing")
        sys.exit(ExitCode.INTERRUPTED)
    failed = [result for result in results if result.failure is not None]
    click.echo(f"{len(results) - len(failed)} of {count(len(results), 'asset')} in {out_dir}")
    if not failed and not case.endswith(".csv"):
        click.echo(f"next: make submit CASE={case} DATA={out_dir}")
    _explain(failed)
    sys.exit(ExitCode.FAILED if failed else ExitCode.OK)


def universe_of(case: str) -> Path:
    """Return the universe's file of a case; a path that ends in .csv is one itself."""
    if case.endswith(".csv"):
        return Path(case)
    root = find_root()
    config = root / "cases" / case / "config.yaml"
    if not config.is_file():
        names = [path.parent.name for path in (root / "cases").glob("[!_]*/config.yaml")]
        raise UserError(f"there is no case {case!r}", where=str(root / "cases"), fix=suggestion(case, names))
    leaves = dict(yamlfile.leaves(yamlfile.load(config)))
    if "data.universe" not in leaves or not leaves["data.universe"].text:
        raise UserError("the case names no universe", where=str(config), fix="set data.universe")
    return root / str(leaves["data.universe"].text)


class _Show:
    """Print a line per asset; on a terminal also what is being done right now, in a line that is replaced."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._asset = ""

    def starting(self, asset: str) -> None:
        self._asset = asset
        self._replace(asset)

    def doing(self, what: str) -> None:
        self._replace(f"{self._asset}: {what}")

    def _replace(self, text: str) -> None:
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            click.echo(f"\r{text[:width]:<{width}}\r", nl=False)

    def clear(self) -> None:
        self._replace("")

    def waiting(self, why: str) -> None:
        self.clear()
        click.echo(f"... {why}")

    def result(self, result: Result) -> Result:
        self.clear()
        click.echo(str(result))
        return result


def _explain(failed: list[Result]) -> None:
    """Say why assets failed, each reason once with its assets and what to do about it."""
    reasons: dict[tuple[str, str | None], list[str]] = {}
    for result in failed:
        assert result.failure is not None
        reasons.setdefault((result.failure.why, result.failure.fix), []).append(result.symbol)
    for (why, fix), symbols in reasons.items():
        more = f" and {len(symbols) - MAX_NAMES} more" if len(symbols) > MAX_NAMES else ""
        click.echo(f"failed: {', '.join(symbols[:MAX_NAMES])}{more}: {why}", err=True)
        if fix:
            click.echo(f"    fix: {fix}", err=True)
