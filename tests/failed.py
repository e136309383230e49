"""A pytest plugin: at the very end, name the failed tests, what each said, and what it left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

HEADING = "failed tests, what they said and the files they left:"
FILES = "files"
BASE = pytest.StashKey[Path]()


@pytest.fixture(scope="session", autouse=True)
def _base_of_temporary_files(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytestconfig.stash[BASE] = tmp_path_factory.getbasetemp()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Put the folder of a failed test's files into its report, which a worker sends to the main process."""
    report = yield
    if report.failed:
        fixtures = getattr(item, "funcargs", {})
        folder = fixtures.get("tmp_path") or item.config.stash.get(BASE, None)
        report.user_properties.append((FILES, str(folder)))
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Write each failure to a file and list them, after everything else that pytest says."""
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(session.config, "workerinput") or terminal is None:
        return
    reports = [report for outcome in ("failed", "error") for report in terminal.stats.get(outcome, [])]
    if not reports:
        return
    folder = folder_for_failures(session.config)
    terminal.write_line(HEADING)
    for report in reports:
        files = dict(report.user_properties).get(FILES, "") if hasattr(report, "user_properties") else ""
        terminal.write_line(f"  {report.nodeid}")
        terminal.write_line(f"    {written(report, folder)}")
        if files:
            terminal.write_line(f"    {files}")


def folder_for_failures(config: pytest.Config) -> Path:
    """Return a folder beside the workers' temporary files, which pytest keeps after a failure."""
    base = config.stash.get(BASE, None) or config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    folder = base / "failed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def written(report: pytest.TestReport, folder: Path) -> Path:
    """Write what pytest knows of a failure to a file of its own, and return that."""
    path = folder / (re.sub(r"[^\w.-]+", "_", report.nodeid)[-150:] + ".txt")
    sections = [f"--- {title}\n{text}" for title, text in report.sections]
    path.write_text("\n".join([report.nodeid, report.longreprtext, *sections]) + "\n")
    return path
