"""A job that has ended because it did not start is given the advice on what it waited for."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoke_jobs.contract.advice import advice, failed_group_advice, ledger_group_advice, pause_advice, room_advice
from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.wait_reasons import NEED_ATTENTION, WaitReason

ENDING = NEED_ATTENTION - {WaitReason.DATABASE_AWAY, WaitReason.REGISTRY_AWAY, WaitReason.PODS_NOT_STARTING} | {
    WaitReason.CLUSTER_FULL,
    WaitReason.INIT_RUNNING,
    WaitReason.SIDECAR_STARTING,
}
"""The reasons with which an attempt that never started ends."""


@pytest.mark.parametrize("reason", sorted(ENDING))
def test_each_reason_that_ends_an_attempt_has_advice_for_afterwards(reason: WaitReason) -> None:
    text = advice(Cause.START_TIMEOUT, reason, 7)
    assert text.endswith("hen `spoke-jobs retry 7`.")
    assert text != Cause.START_TIMEOUT.advise(7)
    assert "No action" not in text
    assert "before the start timeout" not in text
    assert not any(other.remedy for other in set(WaitReason) - ENDING)


def test_without_a_known_reason_it_is_the_advice_of_the_cause() -> None:
    for reason in ("", "NewReason", "PodPending"):
        assert advice(Cause.START_TIMEOUT, reason, 7) == Cause.START_TIMEOUT.advise(7)
    assert advice(Cause.JOB_ERROR, "NoNodeMatches", 7) == CAUSES["JobError"].advise(7)
    assert advice("FromANewerRelease", "", 7) == ""
    assert advice(Cause.JOB_ERROR, "", None) == Cause.JOB_ERROR.advice
    assert advice(Cause.KILLED, "", 7, "x; rm -rf ~") == Cause.KILLED.advise(7), "no signal is called so"
    assert advice(Cause.JOB_ERROR, "", 7, with_message=True) == "Fix the job or its input, then `spoke-jobs retry 7`."


@pytest.mark.parametrize("cause", [Cause.IMAGE_UNAVAILABLE, Cause.TEMPLATE_MISSING, Cause.INIT_FAILED])
def test_a_job_that_has_ended_does_not_go_on_by_itself_when_its_obstacle_is_gone(cause: Cause) -> None:
    assert advice(cause, "", 7) == f"{cause.advise(7)} Then `spoke-jobs retry 7`."
    assert "retry" not in cause.advise(7), "the same advice is given while the job waits"


@pytest.mark.parametrize(
    ("signal", "says"),
    [
        ("SIGKILL", "Find out what sends SIGKILL (memory pressure?), then"),
        ("SIGTERM", "Find out what sends SIGTERM, then"),
        ("SIGSEGV", "Native code of the job has crashed (SIGSEGV). Read its output: `spoke-jobs show 7`;"),
        ("SIGABRT", "Native code of the job has crashed (SIGABRT)."),
    ],
)
def test_the_advice_after_a_signal_fits_the_signal(signal: str, says: str) -> None:
    text = advice(Cause.KILLED, "", 7, signal)
    assert text.startswith(says)
    assert text.endswith("then `spoke-jobs retry 7`.")
    assert ("memory pressure" in text) == (signal == "SIGKILL")


HOSTILE = "x; rm -rf ~ `id` $(id) 'ID' > TYPE"


@given(st.text(st.characters(codec="utf-8"), min_size=1))
@example(HOSTILE)
@example("SCOPE ID TYPE")
def test_a_command_that_people_paste_has_what_a_hostile_row_says_as_one_word(text: str) -> None:
    _, retry, words = failed_group_advice(Cause.JOB_ERROR, text, 7).partition("`spoke-jobs retry --failed ")
    assert retry
    assert shlex.split(words.rpartition("`")[0]) == ["--fingerprint", text]
    paused = ledger_group_advice(WaitReason.PAUSED, job_id=7, job_type="", cause="", scope=text)
    _, resume, words = paused.partition("resume ")
    assert resume
    assert shlex.split(words.rpartition("`")[0]) == [text]


def test_commands_for_a_group_keep_to_its_type() -> None:
    text = failed_group_advice(Cause.KILLED, "", 7, job_type="resize; rm")
    assert "`spoke-jobs retry --failed --type 'resize; rm' --cause Killed`" in text
    assert pause_advice("type:resize; rm", "Killed").endswith("`spoke-jobs pause 'type:resize; rm' --reason Killed`.")
    assert "--max-running 4`" in room_advice("organization:245", 4)
