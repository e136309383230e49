"""Slurm's words in plain ones. The lists are those of squeue(1) and libslurmfull of Slurm 22.05.8."""

from __future__ import annotations

import pytest

from hpc.slurm.states import Phase, explain_reason, explain_state

STATES = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "CONFIGURING",
    "COMPLETING",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PENDING",
    "PREEMPTED",
    "RUNNING",
    "RESV_DEL_HOLD",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "REQUEUED",
    "RESIZING",
    "REVOKED",
    "SIGNALING",
    "SPECIAL_EXIT",
    "STAGE_OUT",
    "STOPPED",
    "SUSPENDED",
    "TIMEOUT",
]

REASONS = [
    "AssocGrpCpuLimit",
    "AssociationJobLimit",
    "AssocMaxJobsLimit",
    "AssociationResourceLimit",
    "AssociationTimeLimit",
    "BadConstraints",
    "BeginTime",
    "Cleaning",
    "Dependency",
    "DependencyNeverSatisfied",
    "FrontEndDown",
    "InactiveLimit",
    "InvalidAccount",
    "InvalidQOS",
    "JobHeldAdmin",
    "JobHeldUser",
    "JobLaunchFailure",
    "Licenses",
    "NodeDown",
    "NonZeroExitCode",
    "PartitionDown",
    "PartitionInactive",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "Priority",
    "Prolog",
    "QOSGrpMemLimit",
    "QOSJobLimit",
    "QOSMaxNodePerUserLimit",
    "QOSResourceLimit",
    "QOSTimeLimit",
    "QOSUsageThreshold",
    "ReqNodeNotAvail",
    "Reservation",
    "Resources",
    "SystemFailure",
    "TimeLimit",
    "WaitingForScheduling",
    "JobHoldMaxRequeue",
    "JobArrayTaskLimit",
    "BurstBufferResources",
    "BurstBufferStageIn",
    "BurstBufferOperation",
    "PartitionConfig",
    "FedJobLock",
    "AssocGrpGRESMinutes",
    "QOSMinGRES",
    "AssocMaxWallDurationPerJobLimit",
    "RequiresReservation",
]


@pytest.mark.parametrize("state", STATES)
def test_every_state_of_slurm_is_known(state: str) -> None:
    known = explain_state(state)

    assert known.phase is not Phase.UNKNOWN
    assert known.meaning.sentence.endswith(".")


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_slurm_is_known(reason: str) -> None:
    assert not explain_reason(reason).sentence.startswith("Slurm says")


def test_only_final_states_are_over() -> None:
    over = {state for state in STATES if explain_state(state).is_over}

    assert over == {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }


def test_the_state_of_sacct_names_who_cancelled() -> None:
    assert explain_state("CANCELLED by 1000") == explain_state("CANCELLED")


def test_a_reason_with_node_names_is_still_known() -> None:
    explanation = explain_reason("ReqNodeNotAvail, UnavailableNodes:a100-[1-2]")

    assert "reserved" in explanation.sentence


@pytest.mark.parametrize(
    ("reason", "word", "remedy"),
    [
        ("QOSMaxGRESPerUser", "GPUs", "wait"),
        ("AssocGrpCPUMinutesLimit", "budget of CPUs", "resources.account"),
        ("AssocMaxWallDurationPerJobLimit", "run time", "resources.limit"),
        ("QOSMinCpuNotSatisfied", "fewer CPUs", "ask for more"),
        ("AssocMaxJobsLimit", "limit on jobs", "wait"),
    ],
)
def test_a_limit_is_named_with_its_owner_and_remedy(reason: str, word: str, remedy: str) -> None:
    explanation = explain_reason(reason)

    assert word in explanation.sentence
    assert remedy in (explanation.remedy or "")


def test_an_unknown_word_is_passed_on() -> None:
    assert explain_state("WARPING").meaning.sentence == "Slurm says WARPING."
    assert explain_reason("(Mystery)").sentence == "Slurm says Mystery."
