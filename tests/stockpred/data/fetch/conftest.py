"""A server on this machine in the place of Binance and Yahoo, and the command that fetches from it."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pandas as pd
import pytest

from stockpred import cli
from stockpred.data import universe
from stockpred.data.fetch.choice import Wishes
from stockpred.data.fetch.pacing import Pace
from stockpred.data.fetch.run import Result
from stockpred.data.fetch.run import fetch as fetch_bars

Query = dict[str, str]
Fetch = Callable[..., tuple[int, str, str]]
FetchAt = Callable[..., list[Result]]


@dataclass(frozen=True)
class Page:
    """One answer; ``announced`` is the length that the server claims where it is not the body's."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None


class LocalServer:
    """Serves ``pages``: of several under one path each is given once, the last one from then on.

    ``chart`` answers what lies under no path of ``pages``, given path and query. ``asked`` are all paths.
    """

    def __init__(self) -> None:
        self.pages: dict[str, list[Page]] = defaultdict(list)
        self.chart: Callable[[str, Query], Page] = lambda _path, _query: Page(b"not here", 404)
        self.asked: list[str] = []
        self.queries: list[Query] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = dict(parse_qsl(parts.query))
        self.asked.append(parts.path)
        self.queries.append(query)
        pages = self.pages.get(parts.path)
        page = self.chart(parts.path, query) if not pages else pages.pop(0) if len(pages) > 1 else pages[0]
        handler.send_response(page.status)
        length = len(page.body) if page.announced is None else page.announced
        for name, value in {"Content-Length": str(length), "Connection": "close", **page.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(page.body)
        handler.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    local = LocalServer()
    yield local
    local.close()


@pytest.fixture
def fetch(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Fetch:
    """Run the command on a universe's rows; return its exit code, and what it said and complained of."""
    monkeypatch.chdir(tmp_path)

    def run(
        *words: str, rows: str = "BTC,Bitcoin,crypto,BTC-USD,BTCUSDT", url: str = ""
    ) -> tuple[int, str, str]:
        header = "symbol,name,category,yahoo,binance"
        (tmp_path / "universe.csv").write_text(f"{header}\n{rows}\n")
        pace = ["--per-minute", "60000", "--base-url", url or server.url]
        command = ["stockpred", "data", "fetch", "universe.csv", "--out", "bars", *pace, *words]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


class Silent:
    """Follows a fetch without a word, and remembers why it waited."""

    def __init__(self) -> None:
        self.waits: list[str] = []

    def starting(self, asset: str) -> None:
        pass

    def doing(self, what: str) -> None:
        pass

    def waiting(self, why: str) -> None:
        self.waits.append(why)


@pytest.fixture
def fetch_at(server: LocalServer, tmp_path: Path, write_universe: Callable[..., Path]) -> FetchAt:
    """Fetch a universe's rows as of a moment; return how each asset went."""

    def run(now: pd.Timestamp, *rows: str, **wishes: Any) -> list[Result]:
        assets = universe.read(write_universe(*(rows or ["BTC,Bitcoin,crypto,,BTCUSDT,"])))
        defaults = {"per_minute": 60000.0, "retries": 0, "base_url": server.url}
        wished = Wishes(**{**defaults, **wishes})
        return list(fetch_bars(assets, tmp_path / "bars", wished, watcher=Silent(), now=now))

    return run


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let every wait be over at once; return the waits that were asked for, in seconds."""
    waits: list[float] = []
    monkeypatch.setattr("stockpred.data.fetch.run.Pace", partial(Pace, sleep=waits.append))
    return waits
