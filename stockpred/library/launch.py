"""Start the ranks of this node as processes, and bring back what the first of them returns.

The work travels as a cloudpickle, so that functions and classes of a script or notebook need neither a module
of their own nor a guarded main. It lies in a folder that only this user can read, and goes with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from types import FrameType
from typing import Any

import cloudpickle
import torch

from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.run.jobenv import num_cores
from hpc.run.stop import STOP_SIGNALS
from stockpred.library.placement import Placement
from stockpred.train import tensorfile
from stockpred.train.distributed import LostContact

POLL_S = 0.05
GRACE_S = 10.0
"""How long the other ranks may take to notice that one has failed, and to say so themselves."""

WORK, RESULT = "work.pkl", "result.pt"
Codes = dict[int, int]
"""Exit codes by rank; that of one that a signal has ended is the signal's number, negative."""


class RankFailed(RuntimeError):
    """A rank ended with an error that is not the person's mistake; the message holds its traceback."""


def run_ranks(work: Callable[[Path], Any], placement: Placement) -> Any:
    """Call ``work(meeting_place)`` in each rank of this node; return what the first rank of the node returns.

    What comes back may hold tensors and plain values. Raises the UserError of the rank that failed first,
    RankFailed for any other error, and SystemExit where the ranks were asked to stop and have saved.
    """
    with tempfile.TemporaryDirectory(prefix="stockpred-") as folder:
        (Path(folder) / WORK).write_bytes(cloudpickle.dumps(work))
        ranks = [_start(Path(folder), placement, local) for local in range(placement.num_ranks)]
        try:
            with _signals_passed_to(ranks) as passed:
                ended = _wait(ranks)
        finally:
            _end(ranks)
        if any(ended.values()):
            codes = {placement.first_rank + local: code for local, code in ended.items()}
            raise _failure(Path(folder), codes, passed)
        return torch.load(Path(folder) / RESULT, weights_only=True)


def carry_out(folder: Path) -> int:
    """Do the work as one rank; leave its result or its error in ``folder`` and return the exit code."""
    _end_with_parent()
    try:
        result = cloudpickle.loads((folder / WORK).read_bytes())(folder)
    except UserError as error:
        row = {**error.row, "exit_code": int(error.exit_code), "lost_contact": isinstance(error, LostContact)}
        return _leave_error(folder, row)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException:
        return _leave_error(folder, {"trace": _trace(), "exit_code": int(ExitCode.FAILED)})
    if os.environ["LOCAL_RANK"] == "0":
        tensorfile.write(folder / RESULT, result)
    return 0


def _start(folder: Path, placement: Placement, local: int) -> subprocess.Popen[bytes]:
    environ = {
        **os.environ,
        "RANK": str(placement.first_rank + local),
        "WORLD_SIZE": str(placement.world_size),
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(placement.num_ranks),
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
    }
    environ.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // placement.num_ranks)))
    command = [sys.executable, "-m", "stockpred.library.rank", str(folder)]
    return subprocess.Popen(command, env=environ, stdin=subprocess.PIPE)


def _wait(ranks: list[subprocess.Popen[bytes]]) -> Codes:
    """Return the exit codes of the ranks that end by themselves, in time after one of them has failed."""
    failed_at: float | None = None
    while True:
        codes = {number: code for number, rank in enumerate(ranks) if (code := rank.poll()) is not None}
        if failed_at is None and any(codes.values()):
            failed_at = time.monotonic()
        is_too_late = failed_at is not None and time.monotonic() - failed_at > GRACE_S
        if is_too_late or len(codes) == len(ranks):
            return codes
        time.sleep(POLL_S)


def _end(ranks: list[subprocess.Popen[bytes]]) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.kill()
    for rank in ranks:
        rank.communicate()


@contextmanager
def _signals_passed_to(ranks: list[subprocess.Popen[bytes]]) -> Iterator[set[int]]:
    """Let the ranks hear of TERM and USR2, upon which they save and leave; yield what they have heard of."""
    passed: set[int] = set()
    if threading.current_thread() is not threading.main_thread():
        yield passed
        return

    def forward(number: int, _frame: FrameType | None) -> None:
        passed.add(number)
        for rank in ranks:
            rank.send_signal(number)

    before = {number: signal.signal(number, forward) for number in STOP_SIGNALS}
    try:
        yield passed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended: its pipe closes then."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(ExitCode.FAILED)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _leave_error(folder: Path, row: Mapping[str, Any]) -> int:
    path = folder / f"error_{os.environ['LOCAL_RANK']}.json"
    records.write_json(path, {**row, "time": time.time(), "rank": os.environ["RANK"]})
    return int(row["exit_code"])


def _trace() -> str:
    return traceback.format_exc()


def _failure(folder: Path, codes: Codes, passed: Collection[int]) -> BaseException:
    """Return why ranks ended: an error of their own, or a kill, before what others lost contact by.

    A rank that a stop signal ended before it listened had nothing to save yet.
    """
    errors = sorted(
        (records.read_json(path) for path in folder.glob("error_*.json")), key=lambda row: row["time"]
    )
    own = [row for row in errors if not row.get("lost_contact")]
    if own and "trace" not in own[0]:
        return _as_user_error(own[0])
    said = [_killed(rank, -code) for rank, code in codes.items() if code < 0 and -code not in passed]
    said += [f"rank {row['rank']} failed:\n{row['trace']}" for row in own[:1]]
    if said:
        return RankFailed("\n".join(said))
    if {int(ExitCode.CONTINUE_LATER), *(-number for number in passed)} & set(codes.values()):
        return SystemExit(int(ExitCode.CONTINUE_LATER))
    return _as_user_error(errors[0]) if errors else RankFailed(f"ranks ended without a word: {codes}")


def _killed(rank: int, number: int) -> str:
    reason = " (most often the machine's memory was full)" if number == Signals.SIGKILL else ""
    return f"rank {rank} was killed by {Signals(number).name}{reason}"


def _as_user_error(row: Mapping[str, Any]) -> UserError:
    code = ExitCode(row["exit_code"])
    return UserError(row["what"], where=row["where"], fix=row["fix"], exit_code=code)
