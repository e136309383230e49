"""Text that a real Slurm 22.05.8 printed, read back."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.slurm import parse
from hpc.slurm.parse import Gpus

TEXTS = Path(__file__).parent / "slurm_text"

# What `sbatch --time=TYPED` made of each spelling: `scontrol show job` of the job it queued.
ACCEPTED = {
    "90": "01:30:00",
    "90:30": "01:31:00",
    "1:30:00": "01:30:00",
    "2-12": "2-12:00:00",
    "2-12:30": "2-12:30:00",
    "2-12:30:15": "2-12:31:00",
    "5:70": "00:07:00",
    "7-00:00:00": "7-00:00:00",
    "1-": "1-00:00:00",
    "UNLIMITED": "UNLIMITED",
    "infinite": "UNLIMITED",
    "-1": "UNLIMITED",
}
REFUSED = ("1:2:3:4", "", "abc", "1h", "1-2:3:4:5")


def read(name: str) -> str:
    return (TEXTS / name).read_text()


@pytest.mark.parametrize(("typed", "shown"), ACCEPTED.items())
def test_a_limit_means_what_sbatch_makes_of_it(typed: str, shown: str) -> None:
    seconds, expected = parse.parse_limit(typed), parse.parse_limit(shown)

    if math.isinf(expected):
        assert math.isinf(seconds)
    else:
        assert math.ceil(seconds / 60) == expected / 60  # sbatch rounds up to whole minutes


@pytest.mark.parametrize("typed", REFUSED)
def test_a_limit_that_sbatch_refuses_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="is not a time limit"):
        parse.parse_limit(typed)


@given(
    days=st.integers(0, 30), hours=st.integers(0, 23), minutes=st.integers(0, 59), seconds=st.integers(0, 59)
)
def test_the_full_spelling_agrees_with_timedelta(days: int, hours: int, minutes: int, seconds: int) -> None:
    typed = f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}"

    expected = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)

    assert parse.parse_limit(typed) == expected.total_seconds()


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("gpu:a100:8", (Gpus("a100", 8),)),
        ("gpu:a100:8(S:0-1)", (Gpus("a100", 8),)),
        ("gpu:8", (Gpus(None, 8),)),
        ("gpu", (Gpus(None, 1),)),
        ("gpu:a100:2,gpu:v100:4(IDX:0-3),lustre:1", (Gpus("a100", 2), Gpus("v100", 4))),
        ("gpu:a100_1g.5gb:7", (Gpus("a100_1g.5gb", 7),)),
        ("gpu:h100:no_consume:4", (Gpus("h100", 4),)),
        ("(null)", ()),
    ],
)
def test_gpus_are_read_from_every_form_of_gres(text: str, gpus: tuple[Gpus, ...]) -> None:
    assert parse.parse_gpus(text) == gpus


def test_sinfo_tells_what_each_kind_of_node_has() -> None:
    groups = {group.partition: group for group in parse.node_groups(read("sinfo.txt"))}

    assert list(groups) == ["long", "urgent", "cpu"]
    assert groups["long"].gpus == (Gpus("a100", 8),)
    assert (groups["long"].num_nodes, groups["long"].num_cpus, groups["long"].memory_mb) == (4, 128, 512000)
    assert groups["cpu"].gpus == ()
    assert groups["cpu"].state == "allocated"


def test_squeue_lines_survive_a_bar_in_the_job_name() -> None:
    jobs = {job.job_id: job for job in parse.queued_jobs(read("squeue.txt"))}

    assert jobs["16"].name == "we|rd name=x"
    assert jobs["16"].reason == "JobHeldUser"
    assert jobs["17_[1-3]"].reason == "DependencyNeverSatisfied"
    assert jobs["19"].state == "RUNNING"


def test_times_of_squeue_are_local_and_unknown_ones_are_none() -> None:
    (job,) = (job for job in parse.queued_jobs(read("squeue.txt")) if job.job_id == "14")

    assert job.submit_time is not None
    assert time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(job.submit_time)) == "2026-11-21T02:12:49"
    assert parse.parse_time("N/A") is None


def test_a_thousand_jobs_are_read_like_seven() -> None:
    text = read("squeue.txt")

    assert parse.queued_jobs(text * 143) == parse.queued_jobs(text) * 143


def test_scontrol_tells_of_a_requeued_job() -> None:
    jobs = {job.job_id: job for job in parse.all_job_facts(read("jobs.txt"))}

    requeued = jobs["14"]

    assert (requeued.state, requeued.reason) == ("PENDING", "BeginTime")
    assert (requeued.num_restarts, requeued.may_requeue) == (1, True)
    assert requeued.fields["MinMemoryNode"] == "4G"


def test_free_text_of_a_job_cannot_pose_as_its_state() -> None:
    jobs = {job.job_id: job for job in parse.all_job_facts(read("jobs.txt"))}

    hostile = jobs["16"]

    assert hostile.fields["Comment"].strip() == "hi JobState=FAILED"
    assert hostile.state == "PENDING"
    assert hostile.fields["JobName"] == "we|rd name=x"
    assert hostile.fields["WorkDir"] == "/home/ann/a b"


def test_a_directory_with_a_line_break_stays_whole() -> None:
    text = (
        read("jobs.txt").split("\n\n")[0].replace("WorkDir=/home/ann", "WorkDir=/home/n\nl JobState=FAILED")
    )

    job = parse.job_facts(text)

    assert job is not None
    assert job.fields["WorkDir"] == "/home/n\nl JobState=FAILED"
    assert job.state == "PENDING"
    assert job.fields["StdOut"] == "/dev/null"


def test_the_one_line_form_of_scontrol_reads_the_same() -> None:
    lines = read("jobs.txt").split("\n\n")[0].splitlines()

    one_line = parse.job_facts(" ".join(line.strip() for line in lines))
    many_lines = parse.job_facts("\n".join(lines))

    assert one_line == many_lines


def test_no_job_is_none() -> None:
    assert parse.job_facts("") is None


def test_partitions_tell_their_limits() -> None:
    partitions = {partition.name: partition for partition in parse.partition_facts(read("partitions.txt"))}

    assert partitions["urgent"].max_limit_s == 3600
    assert math.isinf(partitions["cpu"].max_limit_s)
    assert partitions["long"].is_default
    assert math.isinf(partitions["long"].max_nodes)


def test_settings_keep_values_that_hold_an_equals_sign() -> None:
    settings = parse.settings(
        read("config.txt") + "SchedulerParameters     = bf_interval=2,sched_interval=2\n"
    )

    assert settings["ClusterName"] == "lab"
    assert settings["SchedulerParameters"] == "bf_interval=2,sched_interval=2"
    assert parse.setting_s(settings, "KillWait", 30.0) == 5.0
    assert parse.setting_s({}, "KillWait", 30.0) == 30.0
