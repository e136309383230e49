"""What Slurm's job states and pending reasons mean, in a sentence and with a remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a job is on its way, whatever of its many words Slurm uses."""

    WAITING = "waiting"
    RUNNING = "running"
    LEAVING = "leaving"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Explanation:
    """One sentence for people and, where something can be done, what to do."""

    sentence: str
    remedy: str | None = None


@dataclass(frozen=True)
class State:
    """The phase of a Slurm state and what it means."""

    phase: Phase
    meaning: Explanation

    @property
    def is_over(self) -> bool:
        return self.phase is Phase.ENDED


RESUBMIT = "submit again: the run continues from its newest checkpoint"
_LOGS = "read the log: make logs CASE=NAME"


def _state(phase: Phase, sentence: str, remedy: str | None = None) -> State:
    return State(phase, Explanation(sentence, remedy))


STATES = {
    "PENDING": _state(Phase.WAITING, "The job waits in the queue."),
    "CONFIGURING": _state(Phase.WAITING, "Its nodes are being made ready."),
    "REQUEUED": _state(Phase.WAITING, "The job went back to the queue."),
    "REQUEUE_FED": _state(Phase.WAITING, "The job went back to the queue of the federation."),
    "REQUEUE_HOLD": _state(
        Phase.WAITING, "The job went back to the queue and is held.", "release it: scontrol release JOB"
    ),
    "SPECIAL_EXIT": _state(
        Phase.WAITING,
        "The job ended with the code that makes Slurm hold it.",
        "release it: scontrol release JOB",
    ),
    "RESV_DEL_HOLD": _state(
        Phase.WAITING, "Its reservation was deleted; the job is held.", "release it: scontrol release JOB"
    ),
    "RUNNING": _state(Phase.RUNNING, "The job runs."),
    "RESIZING": _state(Phase.RUNNING, "The job runs while its size changes."),
    "SIGNALING": _state(Phase.RUNNING, "The job is being sent a signal."),
    "STAGE_OUT": _state(Phase.LEAVING, "The job's files are being copied out."),
    "SUSPENDED": _state(
        Phase.RUNNING, "The job is suspended: its processes are paused.", "scontrol resume JOB"
    ),
    "STOPPED": _state(
        Phase.RUNNING, "The job's processes are stopped by a signal.", "scancel --signal=CONT JOB"
    ),
    "COMPLETING": _state(Phase.LEAVING, "The job is leaving its nodes."),
    "COMPLETED": _state(Phase.ENDED, "The job ended well."),
    "CANCELLED": _state(Phase.ENDED, "The job was cancelled.", RESUBMIT),
    "FAILED": _state(Phase.ENDED, "The job ended with an error.", _LOGS),
    "TIMEOUT": _state(Phase.ENDED, "The job reached its time limit and was not requeued.", RESUBMIT),
    "DEADLINE": _state(Phase.ENDED, "The job's --deadline passed.", "submit again without --deadline"),
    "PREEMPTED": _state(Phase.ENDED, "A job of higher priority took the nodes.", RESUBMIT),
    "NODE_FAIL": _state(Phase.ENDED, "A node failed.", RESUBMIT),
    "BOOT_FAIL": _state(Phase.ENDED, "A node did not boot.", RESUBMIT),
    "OUT_OF_MEMORY": _state(
        Phase.ENDED,
        "The job used more memory than it asked for.",
        "raise resources.memory_gb_per_gpu, or let the program use less",
    ),
    "REVOKED": _state(Phase.ENDED, "Another cluster of the federation runs the job."),
}

REASONS = {
    "None": Explanation("Slurm has not looked at the job yet."),
    "Priority": Explanation(
        "Jobs of higher priority are looked at first.", "if it stays so, ask for less time or fewer GPUs"
    ),
    "Resources": Explanation("The job is next and waits for nodes to come free.", "wait"),
    "BeginTime": Explanation(
        "The job may not start yet; after a requeue Slurm holds it for about two minutes.",
        "scontrol update JobId=JOB StartTime=now (`make status` does this)",
    ),
    "Dependency": Explanation("The job waits for another job.", "wait for it to end"),
    "DependencyNeverSatisfied": Explanation(
        "The job waits for another job that ended the wrong way: it will never start.",
        "cancel it and submit again",
    ),
    "JobHeldUser": Explanation("You hold the job.", "scontrol release JOB"),
    "JobHeldAdmin": Explanation("An administrator holds the job.", "ask the site's support"),
    "JobHoldMaxRequeue": Explanation("The job was requeued too often and is held.", "scontrol release JOB"),
    "job requeued in held state": Explanation("The job was requeued and is held.", "scontrol release JOB"),
    "launch failed requeued held": Explanation(
        "The job could not be launched and is held.",
        "check that the log directory exists; scontrol release JOB",
    ),
    "JobLaunchFailure": Explanation(
        "Slurm could not launch the job.", "check that the log directory and the workspace exist on the nodes"
    ),
    "PartitionTimeLimit": Explanation(
        "The time limit is longer than the partition allows: the job will never start.",
        "lower resources.limit, or choose another resources.partition",
    ),
    "PartitionNodeLimit": Explanation(
        "More nodes are asked for than the partition has or allows: the job will never start.",
        "lower resources.nodes, or choose another resources.partition",
    ),
    "PartitionDown": Explanation("The partition is down.", "choose another resources.partition, or wait"),
    "PartitionInactive": Explanation(
        "The partition starts no jobs.", "choose another resources.partition, or wait"
    ),
    "NodeDown": Explanation("A node that the job needs is down.", "wait, or do not ask for that node"),
    "BadConstraints": Explanation(
        "No node has what is asked for: the job will never start.",
        "mend resources.constraint, resources.gpu_type or resources.exclude",
    ),
    "ReqNodeNotAvail": Explanation(
        "A needed node is down, drained or reserved (often: maintenance is coming).",
        "ask for a limit that ends before the maintenance: scontrol show reservation",
    ),
    "Reservation": Explanation("The job waits for its reservation to begin.", "wait"),
    "ReservationDeleted": Explanation("The job's reservation is gone.", "submit without it"),
    "Licenses": Explanation("The job waits for a licence.", "wait"),
    "InvalidAccount": Explanation("The account is not valid.", "set resources.account"),
    "InvalidQOS": Explanation("The QOS is not valid.", "set resources.qos"),
    "AccountNotAllowed": Explanation(
        "The account may not use this partition.",
        "set resources.account, or choose another resources.partition",
    ),
    "QOSNotAllowed": Explanation("This QOS may not be used here.", "set resources.qos"),
    "Cleaning": Explanation("The job's last start is still being cleaned up.", "wait"),
    "Prolog": Explanation("The nodes' prolog is running.", "wait"),
    "NonZeroExitCode": Explanation("The job ended with an error.", _LOGS),
    "RaisedSignal": Explanation("A signal ended the job.", _LOGS),
    "TimeLimit": Explanation("The job reached its time limit.", RESUBMIT),
    "NodeFailure": Explanation("A node failed.", RESUBMIT),
    "OutOfMemory": Explanation(
        "The job used more memory than it asked for.", "raise resources.memory_gb_per_gpu"
    ),
    "MaxSubmitJobsPerUser": Explanation(
        "You have as many jobs in the queue as you may.", "wait for some to end"
    ),
    "BurstBufferResources": Explanation("The job waits for the burst buffer.", "wait"),
    "FrontEndDown": Explanation("No front end is up to run the job.", "wait"),
    "InactiveLimit": Explanation("The job was inactive for too long.", RESUBMIT),
    "JobArrayTaskLimit": Explanation("The array runs as many tasks at once as it may.", "wait"),
    "WaitingForScheduling": Explanation("Slurm has not looked at the job yet."),
    "BurstBufferStageIn": Explanation("Files are being copied to the burst buffer.", "wait"),
    "BurstBufferOperation": Explanation("The burst buffer is busy with the job.", "wait"),
    "FedJobLock": Explanation("Another cluster of the federation decides on the job.", "wait"),
    "PartitionConfig": Explanation(
        "The partition's rules keep the job out (often its least or greatest number of nodes).",
        "change resources.nodes, or choose another resources.partition",
    ),
    "RequiresReservation": Explanation(
        "The partition starts only jobs with a reservation.", "resources.extra.reservation=NAME"
    ),
    "SystemFailure": Explanation("Slurm, a file system or the network failed.", RESUBMIT),
}

_UNIT_OF_LIMIT = {
    "cpu": "CPUs",
    "gres": "GPUs",
    "mem": "memory",
    "node": "nodes",
    "billing": "billing units",
    "license": "licences",
    "energy": "energy",
}


def explain_state(text: str) -> State:
    """Return what a state of squeue, scontrol or sacct means; ``CANCELLED by 0`` and ``RUNNING+`` too."""
    word = re.split(r"[ +]", text.strip(), maxsplit=1)[0]
    return STATES.get(word, State(Phase.UNKNOWN, Explanation(f"Slurm says {text.strip() or 'nothing'}.")))


def explain_reason(text: str) -> Explanation:
    """Return what a pending reason means, also for the many reasons that name a limit."""
    reason = text.strip().strip("()")
    known = REASONS.get(reason) or REASONS.get(re.split(r"[,:]", reason, maxsplit=1)[0])
    return known or _limit_reason(reason) or Explanation(f"Slurm says {reason or 'nothing'}.")


def _limit_reason(reason: str) -> Explanation | None:
    """Read AssocGrpGRES, QOSMaxCpuPerUserLimit, AssociationTimeLimit and the hundred others of their kind."""
    match = re.fullmatch(r"(Assoc(?:iation)?|QOS)(Grp|Max|Min)?(\w+)", reason)
    if match is None:
        return None
    owner = "QOS" if match[1] == "QOS" else "account"
    subject = match[3].lower()
    unit = next((name for key, name in _UNIT_OF_LIMIT.items() if key in subject), "jobs")
    if match[2] == "Min":
        return Explanation(
            f"The job asks for fewer {unit} than the {owner} demands ({reason}).", "ask for more"
        )
    if "minutes" in subject:
        return Explanation(
            f"The {owner}'s budget of {unit} is used up ({reason}).",
            "lower resources.limit, use another resources.account, or ask the site for more",
        )
    if "wall" in subject or "timelimit" in subject:
        return Explanation(f"The {owner}'s limit on run time is reached ({reason}).", "lower resources.limit")
    return Explanation(
        f"The {owner}'s limit on {unit} is reached ({reason}).", "wait for your other jobs, or ask for less"
    )
