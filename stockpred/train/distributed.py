"""Ranks that find each other, agree on numbers and leave together.

Rank 0 binds a store on a free port first and publishes the address afterwards: no port is ever guessed.
What ranks tell each other here are a few numbers over gloo; gradients are DDP's business.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore, Store

from hpc.base import records, text
from hpc.base.errors import ExitCode, UserError
from hpc.run.jobenv import JobEnv, num_cores
from hpc.run.paths import RunPaths
from stockpred.config.base import TrainingConfig

SETUP_TIMEOUT_S = 300.0
COLLECTIVE_TIMEOUT_S = 600.0
POLL_S = 0.05
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
NO_GPU = "no GPU was visible: training ran on the CPU"
SHARED_GPU = "not every rank had a GPU of its own: all of them trained on the CPU"
SEVERAL_ON_MPS = "MPS trains in one process only: all ranks trained on the CPU"
SIGNS_OF_LATENESS = ("timed out", "timeout")
SIGNS_OF_A_LOST_PEER = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "socket")


@dataclass(frozen=True)
class Group:
    """This process among its ranks; a world of one needs no process group.

    ``warning`` says what a reader of the run must know about the device.
    """

    env: JobEnv
    device: torch.device
    warning: str | None = None

    @property
    def rank(self) -> int:
        return self.env.rank

    @property
    def world_size(self) -> int:
        return self.env.world_size

    @property
    def is_main(self) -> bool:
        return self.env.is_main

    def reduce_max(self, values: list[float]) -> list[float]:
        """Return the element-wise maximum over all ranks."""
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return [float(value) for value in tensor]

    def gather_floats(self, values: list[float]) -> list[list[float]]:
        """Return every rank's ``values``, equally many each, in the order of ranks."""
        if self.world_size == 1:
            return [values]
        mine = torch.tensor(values, dtype=torch.float64)
        ranks = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(ranks, mine)
        return [rank.tolist() for rank in ranks]

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's ``value`` in the order of ranks: sums over them are equal everywhere."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def gather_on_main(self, value: Any) -> list[Any]:
        """Return every rank's ``value`` in the order of ranks on rank 0, an empty list on the others."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.is_main else None
        dist.gather_object(value, values, dst=0)
        return values or []

    def from_main(self, value: Any) -> Any:
        """Return rank 0's ``value`` on every rank; nobody goes on before rank 0 has come here."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def broadcast(self, tensor: torch.Tensor) -> None:
        """Overwrite ``tensor`` with rank 0's."""
        if self.world_size > 1:
            dist.broadcast(tensor, src=0)


@contextmanager
def joined(
    env: JobEnv, paths: RunPaths, settings: TrainingConfig, *, timeout_s: float = SETUP_TIMEOUT_S
) -> Iterator[Group]:
    """Bring all ranks of this attempt together, and take them apart at the end.

    Raises UserError when they do not find each other within ``timeout_s``, and when one is lost on the way.
    """
    torch.set_num_threads(num_threads(env))
    if settings.exact:
        make_exact()
    device = choose_device(settings.device, env)
    if env.world_size == 1:
        yield _settled(env, device, settings.device, [name_gpu(device)])
        return
    group = _connect(env, device, settings.device, paths, timeout_s)
    try:
        yield group
        dist.barrier()
    except UserError as error:
        _take_apart(error)
        raise
    except RuntimeError as error:
        if not _is_lost_peer(error):
            raise
        raise UserError(
            f"rank {env.rank} lost contact with another rank: {str(error).splitlines()[0]}",
            where=str(paths.logs),
            fix="read the other ranks' logs for the first error; the run continues from its last checkpoint",
            exit_code=ExitCode.FAILED,
        ) from error
    _take_apart(None)


def choose_device(wanted: str, env: JobEnv) -> torch.device:
    """Return this rank's device; ``auto`` takes CUDA where there is one, else MPS, else the CPU.

    What becomes of a GPU that ranks would have to share is decided when they have met (see ``own_device``).
    Raises UserError where a GPU's driver is at work, but torch cannot see the GPU: nobody means to train on
    the CPU there.
    """
    num_devices = torch.cuda.device_count() if wanted in ("auto", "cuda") else 0
    if num_devices == 0:
        return _without_cuda(wanted)
    if num_devices < env.local_world_size and num_devices > 1:
        raise UserError(
            f"{env.local_world_size} ranks share a node, but they see {num_devices} GPUs",
            fix="run one rank per GPU",
        )
    return torch.device("cuda", env.local_rank % num_devices)


def _without_cuda(wanted: str) -> torch.device:
    if wanted in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if wanted == "mps":
        raise UserError(
            "training.device is mps, but this process sees no MPS, the GPU of a Mac",
            fix="set training.device=auto",
        )
    if wanted == "cuda":
        raise UserError(
            "training.device is cuda, but this process sees no GPU",
            fix="request one (resources.gpus) or set training.device=auto",
        )
    if wanted == "auto" and NVIDIA_DRIVER.exists():
        raise _unseen_gpu()
    return torch.device("cpu")


def name_gpu(device: torch.device) -> str | None:
    """Return a GPU's name, which is the same in every process that sees it; None for the CPU."""
    if device.type == "cpu":
        return None
    own = device.type if device.type == "mps" else torch.cuda.get_device_properties(device).uuid
    return f"{socket.gethostname()} {own}"


def own_device(
    device: torch.device, wanted: str, gpus: Sequence[str | None]
) -> tuple[torch.device, str | None]:
    """Return this rank's device and a warning, given the GPUs of all ranks (see ``name_gpu``).

    Ranks that share a GPU cannot form an NCCL group, and on MPS no gradients are averaged: ``auto`` sends all
    of them to the CPU, ``cuda`` and ``mps`` raise UserError.
    """
    if wanted == "cpu":
        return device, None
    if not any(gpus):
        return device, NO_GPU
    if len(gpus) > 1 and any(gpu is not None and gpu.endswith(" mps") for gpu in gpus):
        return _several_on_mps(wanted, len(gpus))
    if None not in gpus and len(set(gpus)) == len(gpus):
        return device, None
    if wanted == "cuda":
        raise UserError(
            f"{len(gpus)} ranks share {text.count(len(set(gpus)), 'GPU')}",
            fix="run one rank per GPU (resources.gpus), or set training.device=cpu",
        )
    return torch.device("cpu"), SHARED_GPU


def _several_on_mps(wanted: str, num_ranks: int) -> tuple[torch.device, str]:
    if wanted == "mps":
        raise UserError(
            f"training.device is mps, which trains in one process, and there are {num_ranks} ranks",
            where="training.device",
            fix="run one rank (resources.gpus=1), or set training.device=cpu",
        )
    return torch.device("cpu"), SEVERAL_ON_MPS


def num_threads(env: JobEnv) -> int:
    """Return the CPU threads of this rank: what the launcher says, else a fair share of its CPUs.

    Never more than those CPUs: threads that wait for one another's turn make a step many times slower.
    """
    num_cpus = num_cores()
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        if os.environ.get(name, "").isdecimal():
            return max(1, min(int(os.environ[name]), num_cpus))
    return max(1, num_cpus // env.local_world_size)


def make_exact() -> None:
    """Choose repeatable kernels and reductions on CUDA; to be called before the first CUDA kernel."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("NCCL_ALGO", "Ring")
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    torch.use_deterministic_algorithms(True)
    # Only a debugging aid, and it costs a memory pass per allocation.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def _connect(env: JobEnv, device: torch.device, wanted: str, paths: RunPaths, timeout_s: float) -> Group:
    if env.num_nodes == 1 and "lo" in (name for _, name in socket.if_nameindex()):
        # A host name that resolves to an unreachable address must not matter to ranks of one host.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # DDP imports this; once the group exists, that would put the group into default arguments for ever.
    importlib.import_module("torch._dynamo")
    meeting_place = paths.rendezvous(env.attempt)
    begin = time.monotonic()
    deadline = begin + timeout_s
    try:
        store = _publish(env, meeting_place) if env.is_main else _find(env, meeting_place, deadline)
        store.set(f"rank_{env.rank}", json.dumps(name_gpu(device)))
        everyone = [f"rank_{rank}" for rank in range(env.world_size)]
        store.wait(everyone, timedelta(seconds=max(1.0, deadline - time.monotonic())))
        group = _settled(env, device, wanted, [json.loads(store.get(rank)) for rank in everyone])
        is_cuda = group.device.type == "cuda"
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if is_cuda else "gloo",
            store=store,
            rank=env.rank,
            world_size=env.world_size,
            timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S),
            device_id=group.device if is_cuda else None,
        )
        dist.barrier()
    except (RuntimeError, TimeoutError) as error:
        raise _did_not_meet(env, time.monotonic() - begin, error) from error
    return group


def _settled(env: JobEnv, device: torch.device, wanted: str, gpus: Sequence[str | None]) -> Group:
    group = Group(env, *own_device(device, wanted, gpus))
    if group.device.type == "cuda":
        torch.cuda.set_device(group.device)
    return group


def _take_apart(error: BaseException | None) -> None:
    """End the group and its threads: one that outlives the interpreter aborts the process.

    What holds the group are DDP's cycles, and the frames of an error on its way up. After a lost peer this is
    left undone, because a thread may wait for that peer; such a process should leave by ``os._exit``.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    gc.collect()
    dist.destroy_process_group()


def _publish(env: JobEnv, meeting_place: Path) -> Store:
    host = "127.0.0.1" if env.num_nodes == 1 else socket.gethostname()
    server = TCPStore("127.0.0.1", 0, None, is_master=True, wait_for_workers=False)
    token = uuid.uuid4().hex
    server.set(token, "here")
    address = {"host": host, "port": server.port, "job_id": env.job_id, "token": token}
    records.write_json(meeting_place, address)
    return PrefixStore(token, server)


def _find(env: JobEnv, meeting_place: Path, deadline: float) -> Store:
    """Wait for an address of this job at which someone listens; an older attempt's file is passed over."""
    while time.monotonic() < deadline:
        address = records.read_json_if_any(meeting_place)
        if address is not None and address.get("job_id") == env.job_id and _listens(address):
            client = TCPStore(
                _reachable(str(address["host"])),
                address["port"],
                None,
                is_master=False,
                timeout=timedelta(seconds=max(1.0, deadline - time.monotonic())),
                wait_for_workers=False,
            )
            if client.check([address["token"]]):
                return PrefixStore(address["token"], client)
        time.sleep(POLL_S)
    raise TimeoutError(f"rank 0 has not published its address in {meeting_place}")


def _listens(address: dict[str, Any]) -> bool:
    try:
        with socket.create_connection((_reachable(str(address["host"])), address["port"]), timeout=5.0):
            return True
    except OSError:
        return False


def _reachable(host: str) -> str:
    return "127.0.0.1" if host == socket.gethostname() else host


def _unseen_gpu() -> UserError:
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return UserError(
        f"this machine has a GPU driver, but torch {torch.__version__}, {built}, sees no GPU",
        where=str(NVIDIA_DRIVER),
        fix="request a GPU (resources.gpus), set training.device=cpu, or take a torch that fits the driver: "
        "rm -r .venv, then make demo TORCH_INDEX=URL, with the index of torch wheels for the driver's CUDA",
    )


def _did_not_meet(env: JobEnv, waited_s: float, error: RuntimeError | TimeoutError) -> UserError:
    reason = str(error).splitlines()[0]
    is_late = isinstance(error, TimeoutError) or any(word in reason.lower() for word in SIGNS_OF_LATENESS)
    what = (
        f"waited {waited_s:.0f} s for the others in vain: {reason}"
        if is_late
        else f"the process group could not be formed: {reason}"
    )
    return UserError(
        f"rank {env.rank} of {env.world_size}: {what}",
        fix="see whether every rank has started, and whether the nodes reach each other (GLOO_SOCKET_IFNAME, "
        "NCCL_SOCKET_IFNAME)",
        exit_code=ExitCode.FAILED,
    )


def _is_lost_peer(error: RuntimeError) -> bool:
    said = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, dist.DistError) or any(sign in said for sign in SIGNS_OF_A_LOST_PEER)
