"""Why an attempt ended and what follows."""

import pytest

from hpc.base.errors import ExitCode
from hpc.run.decision import RetryLimits, crash_cause, judge
from hpc.run.ending import (
    CANCELLED,
    NODE_FAILURE,
    NOTHING,
    PREEMPTED,
    SUPERSEDED,
    TIME_LIMIT,
    Cause,
    Circumstance,
    Decision,
    Ending,
)
from hpc.run.history import History, reduce


def history(*attempts: tuple[int, int | None], rows: tuple[dict[str, object], ...] = ()) -> History:
    """Attempts as (first step, committed step); the last one is still open."""
    events: list[dict[str, object]] = [{"kind": "submitted", "job_id": "7", "executor": "slurm", "time": 0.0}]
    for number, (first, committed) in enumerate(attempts, start=1):
        events.append({"kind": "attempt_started", "attempt": number, "job_id": "7", "time": float(number)})
        events.append({"kind": "resumed", "attempt": number, "step": first})
        if committed is not None:
            events.append({"kind": "checkpoint", "attempt": number, "step": committed, "time": 0.0})
        if number < len(attempts):
            events.append({"kind": "attempt_ended", "attempt": number, "cause": "crashed", "time": 0.0})
    return reduce([*events, *rows])


def ending(
    exit_code: int,
    past: History,
    *,
    seen: Circumstance = NOTHING,
    agreed: str | None = None,
    max_attempts: int | None = None,
    starts_again: bool = True,
) -> Ending:
    return judge(
        exit_code,
        circumstance=seen,
        stop_cause=agreed,
        history=past,
        limits=RetryLimits(2, max_attempts, starts_again),
    )


def test_done_needs_both_the_exit_code_and_the_ledger() -> None:
    done = history((0, 10), rows=({"kind": "finished", "attempt": 1},))

    assert ending(0, done).decision is Decision.FINISHED
    assert ending(0, history((0, 10))).decision is not Decision.FINISHED


@pytest.mark.parametrize("cause", ["deadline", "signal", "request"])
def test_a_saved_stop_continues(cause: str) -> None:
    answer = ending(ExitCode.CONTINUE_LATER, history((0, 10)), agreed=cause)

    assert (answer.cause, answer.decision) == (cause, Decision.CONTINUE)


def test_where_nobody_starts_the_next_attempt_a_saved_stop_says_how_to_continue() -> None:
    answer = ending(ExitCode.CONTINUE_LATER, history((0, 10)), agreed="deadline", starts_again=False)

    assert answer == Ending("deadline", Decision.STOP, "the same command continues it after step 10")


def test_a_crash_after_progress_continues_however_often() -> None:
    past = history(*[(step, step + 5) for step in range(0, 100, 5)])

    assert ending(137, past) == Ending("killed by SIGKILL", Decision.CONTINUE, "continues after step 100")


def test_the_second_attempt_in_a_row_without_a_new_step_stops_the_run() -> None:
    first = ending(1, history((0, 10), (10, None)))
    second = ending(1, history((0, 10), (10, None), (10, 10)))

    assert first.decision is Decision.CONTINUE
    assert second.decision is Decision.STOP
    assert "2 attempts in a row committed no new step after step 10" in second.why


def test_preemptions_without_a_new_step_do_not_count() -> None:
    rows = [
        {"kind": "attempt_started", "attempt": number, "job_id": "7", "time": 0.0} for number in range(1, 5)
    ]
    ends = [
        {"kind": "attempt_ended", "attempt": number, "cause": "preempted", "time": 0.0}
        for number in (1, 2, 3)
    ]
    past = reduce([*rows, *ends])

    assert ending(1, past).decision is Decision.CONTINUE


def test_a_persons_new_submit_forgives_what_was_before() -> None:
    stuck = history((0, None), (0, None))
    again = history(
        (0, None), (0, None), rows=({"kind": "submitted", "job_id": "8", "executor": "slurm", "time": 1.0},)
    )
    successor = history(
        (0, None),
        (0, None),
        rows=({"kind": "submitted", "job_id": "8", "successor_of": "7", "executor": "slurm", "time": 1.0},),
    )

    assert stuck.num_stalled(()) == successor.num_stalled(()) == 2
    assert again.num_stalled(()) == 0


@pytest.mark.parametrize(
    ("seen", "decision", "cause"),
    [
        (CANCELLED, Decision.STOP, "cancelled"),
        (PREEMPTED, Decision.CONTINUE, "preempted"),
        (TIME_LIMIT, Decision.CONTINUE, "time limit"),
        (NODE_FAILURE, Decision.CONTINUE, "node failure"),
        (Circumstance(Cause.NODE_FAILURE, is_requeued=True), Decision.LEAVE, "node failure"),
        (Circumstance(Cause.REQUEUED, is_requeued=True), Decision.LEAVE, "requeued by Slurm"),
        (SUPERSEDED, Decision.LEAVE, "superseded"),
    ],
)
def test_what_slurm_did_outweighs_the_exit_code(seen: Circumstance, decision: Decision, cause: str) -> None:
    answer = ending(ExitCode.CONTINUE_LATER, history((0, 10)), seen=seen, agreed="signal")

    assert (answer.decision, answer.cause) == (decision, cause)


def test_a_mistake_is_not_repeated_though_a_killed_peer_hides_its_exit_code() -> None:
    told = history((0, None), rows=({"kind": "mistake", "attempt": 1, "text": "no bars"},))

    assert ending(137, told) == Ending("mistake", Decision.STOP, "no bars")


def test_the_number_of_attempts_can_be_bounded() -> None:
    assert ending(85, history((0, 5), (5, 9)), agreed="deadline", max_attempts=2).decision is Decision.STOP


@pytest.mark.parametrize(
    ("code", "words"),
    [(137, "killed by SIGKILL"), (-11, "killed by SIGSEGV"), (1, "crashed with exit code 1")],
)
def test_a_crash_is_named(code: int, words: str) -> None:
    assert crash_cause(code) == words


def test_a_job_id_that_a_new_cluster_gives_again_is_a_new_submit() -> None:
    cancelled = {"kind": "attempt_ended", "attempt": 1, "cause": "cancelled", "decision": "stop", "time": 2.0}
    again = {"kind": "submitted", "job_id": "7", "executor": "slurm", "time": 3.0}

    past = history((0, 4), rows=({"kind": "cancelled"}, cancelled, again))

    assert not past.is_cancelled
    assert past.is_resubmitted
    assert not past.is_over


def test_only_a_persons_submit_takes_a_cancellation_back() -> None:
    submit = {"kind": "submitted", "job_id": "8", "executor": "slurm", "time": 3.0}

    successor = history((0, 4), rows=({"kind": "cancelled"}, {**submit, "successor_of": "7"}))
    by_person = history((0, 4), rows=({"kind": "cancelled"}, submit))

    assert successor.is_cancelled
    assert not by_person.is_cancelled


def test_what_slurm_says_of_a_dead_job_does_not_replace_what_the_attempt_said_itself() -> None:
    ended = {"kind": "attempt_ended", "attempt": 1, "cause": "deadline", "decision": "continue", "time": 2.0}
    late = {"kind": "vanished", "attempt": 1, "cause": "Slurm: COMPLETED", "decision": "stop", "time": 3.0}

    last = history((0, 4), rows=(ended, late)).last

    assert last is not None
    assert (last.cause, last.decision) == ("deadline", "continue")


def test_a_checkpoint_that_the_run_had_before_is_no_progress() -> None:
    assert history((0, 10), (4, 10), (4, 10)).num_stalled(()) == 2
