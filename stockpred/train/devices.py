"""Which device a rank computes on, with how many threads, and how exactly."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import torch

from hpc.base import text
from hpc.base.errors import UserError
from hpc.run.jobenv import JobEnv, num_cores

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
NO_GPU = "no GPU was visible: training ran on the CPU"
SHARED_GPU = "not every rank had a GPU of its own: all of them trained on the CPU"
SEVERAL_ON_MPS = "MPS trains in one process only: all ranks trained on the CPU"


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


def _unseen_gpu() -> UserError:
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return UserError(
        f"this machine has a GPU driver, but torch {torch.__version__}, {built}, sees no GPU",
        where=str(NVIDIA_DRIVER),
        fix="request a GPU (resources.gpus), set training.device=cpu, or take a torch that fits the driver: "
        "rm -r .venv, then make demo TORCH_INDEX=URL, with the index of torch wheels for the driver's CUDA",
    )
