"""What is refused before Slurm sees it, what is only warned of, and what passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpc.base.errors import ExitCode
from hpc.plan import estimate, plan, preflight
from hpc.plan.finding import Finding, Severity, failures
from hpc.slurm.cluster import Cluster


def checks(root: Path, cluster: Cluster | None, *overrides: str, **chosen: Any) -> dict[str, Finding]:
    chosen.setdefault("data_dir", "bars")
    made = plan.build(root, "crypto", overrides=overrides, **chosen)
    return {check.name: check for check in preflight.check(made, cluster)}


def failed(found: dict[str, Finding]) -> set[str]:
    return {name for name, check in found.items() if check.severity is Severity.FAIL}


@pytest.mark.parametrize("case", ["crypto", "reduced", "full_market", "per_stock"])
def test_every_case_passes_on_the_cluster_it_was_made_for(workspace: Path, lab: Cluster, case: str) -> None:
    made = plan.build(workspace, case, data_dir="bars")

    assert not failures(preflight.check(made, lab))


@pytest.mark.parametrize(
    ("overrides", "name", "what", "fix"),
    [
        (["resources.partition=lnog"], "partition", "does not exist on lab", "did you mean 'long'?"),
        (["resources.limit=8-00"], "limit", "longer than partition long allows", "use partition cpu"),
        (["resources.limit=UNLIMITED"], "limit", "it would wait for ever", "7-00:00:00"),
        (["resources.gpu_type=a10"], "gpu type", "has no a10 GPUs", "did you mean 'a100'?"),
        (["resources.gpu_type=h200x"], "gpu type", "has no h200x GPUs", "use one of: a100"),
        (["resources.partition=cpu"], "gpu type", "partition cpu has no GPUs", "use partition long, urgent"),
        (["resources.gpus=16"], "gpus", "have 8", "resources.gpus=8"),
        (["resources.cpus_per_gpu=65"], "cpus", "2 x 65 CPUs", "resources.cpus_per_gpu=64"),
        (["resources.memory_gb_per_gpu=251"], "memory", "2 x 251 GB", "resources.memory_gb_per_gpu=250"),
        (["resources.nodes=5"], "nodes", "gives at most 4", "resources.nodes=4"),
    ],
)
def test_a_request_that_no_node_can_meet_is_refused(
    workspace: Path, lab: Cluster, overrides: list[str], name: str, what: str, fix: str
) -> None:
    found = checks(workspace, lab, *overrides)

    assert failed(found) == {name}
    assert what in found[name].what
    assert fix in (found[name].fix or "")
    assert found[name].where == "command line"


def test_the_site_default_stands_in_for_no_partition(workspace: Path, lab: Cluster) -> None:
    assert checks(workspace, lab, "resources.partition=null")["partition"].what.startswith("long")


def test_a_site_without_a_default_asks_for_a_partition(workspace: Path, lab: Cluster) -> None:
    nameless = replace(lab, partitions=lab.partitions[1:])

    assert "no default partition" in checks(workspace, nameless, "resources.partition=null")["partition"].what


def test_cpus_can_be_asked_for_without_gpus(workspace: Path, lab: Cluster) -> None:
    shares = ["resources.cpus_per_gpu=8", "resources.memory_gb_per_gpu=16"]

    assert not failed(
        checks(workspace, lab, "resources.partition=cpu", "resources.gpu_request=none", *shares)
    )


def test_a_run_directory_that_cannot_be_made_is_refused(workspace: Path) -> None:
    (workspace / "runs").write_text("a file in the way")

    found = checks(workspace, None)["run directory"]

    assert found.severity is Severity.FAIL
    assert found.where == str(workspace / "runs")


def test_a_template_that_is_not_bash_is_refused(workspace: Path) -> None:
    template = workspace / "cases/crypto/job.sbatch.j2"
    template.write_text(template.read_text() + "{% block setup %}if true; then{% endblock %}")

    assert failed(checks(workspace, None)) == {"script"}


@pytest.mark.parametrize("limit", ["1", "3"])
def test_a_signal_without_time_to_come_is_only_warned_of(workspace: Path, limit: str) -> None:
    assert checks(workspace, None, f"resources.limit={limit}")["signal"].severity is Severity.WARN


def test_what_may_wait_is_only_warned_of(workspace: Path, lab: Cluster) -> None:
    long = replace(lab.partitions[0], is_up=False)
    sleepy = replace(lab, partitions=(long,), settings={**lab.settings, "JobRequeue": "0"})

    found = checks(workspace, sleepy)

    assert found["partition state"].severity is Severity.WARN
    assert found["requeue"].severity is Severity.WARN
    assert checks(workspace, None, "resources.nodes=2")["nodes"].severity is Severity.WARN


def test_failures_are_refusals(workspace: Path, lab: Cluster) -> None:
    found = checks(workspace, lab, "resources.gpus=16", "resources.limit=8-00")

    problems = failures(list(found.values()))

    assert {problem.exit_code for problem in problems} == {ExitCode.REFUSED}
    assert len(problems) == 2


def test_the_bound_is_every_gpu_until_the_limit(workspace: Path) -> None:
    overrides = ["resources.nodes=2", "resources.gpus=4", "resources.limit=1-12"]
    made = plan.build(workspace, "crypto", overrides=overrides)

    unlimited = plan.build(workspace, "crypto", overrides=["resources.limit=UNLIMITED"])

    assert estimate.most_gpu_hours(made.resources) == 2 * 4 * 36
    assert estimate.most_gpu_hours(unlimited.resources) == float("inf")
