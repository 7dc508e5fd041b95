"""All waiting and recently failed jobs of the ledger, grouped by reason, with one action for each group."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.explain.crowds import CLUSTER, KIND, crowd, failed, only, spokejob, waiting
from tests.unit.explain.situations import NOW, a_holder, a_load, a_trace, after, before

from spoke_jobs.cli.rendering.groups_output import print_groups
from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import Group, groups, oldest_of, reasons, tried_again
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.reading.crowd import Share, WaitingCount
from spoke_jobs.ledger.reading.failure_facts import FailureFacts

PAGE = Path(__file__).parents[3] / "docs/why.md"


@pytest.mark.parametrize(
    ("kind", "around", "reason", "text", "advice"),
    [
        ({"runner": "reference", "assigned": True}, {}, Code.TAKEN, "other code", "cancel --reason taken"),
        (
            {"blocked": True},
            {"held": {replace(KIND, blocked=True): Wait("Paused", object="all", source="the pause of all")}},
            Code.BLOCKED,
            "depend on jobs that have not ended",
            "`spoke-jobs why 40` names the jobs that job 40 waits for.",
        ),
        ({"suspended": True, "later": True, "cause": "JobError"}, {}, Code.SUSPENDED, "are suspended", ""),
        (
            {"unmet": "WithinStartTimeout"},
            {},
            Code.NOT_CLAIMABLE,
            "are due, and no worker starts them: the start timeout has expired",
            "",
        ),
        ({"later": True}, {}, Code.DUE_LATER, "are to start later, the first at", ""),
        ({"later": True, "cause": "RetryLater"}, {}, Code.ASKED_LATER, "asked to be run again later", ""),
        (
            {"later": True, "cause": "JobError", "fingerprint": "KeyError@shop.f"},
            {},
            Code.BACKOFF,
            "failed with JobError KeyError@shop.f and are tried again",
            "Read the message: `spoke-jobs show 40`. The job is tried again.",
        ),
        (
            {"holder": 9},
            {"holders": {9: a_holder()}},
            Code.QUEUE_LOCK,
            "wait for job 9 (import_contacts), which has held the lock of 7:contacts for 3 min, 40 % done",
            "`spoke-jobs why 9` explains that job.",
        ),
        (
            {},
            {"held": {KIND: Wait("Paused", object="type:report", source="the pause of type:report", by="ann")}},
            Code.PAUSED,
            "paused by ann (the pause of type:report)",
            "`spoke-jobs resume type:report`",
        ),
        (
            {},
            {"held": {KIND: Wait("TypeLimitReached", object="report", running=2, limit=2, source="limit each-type")}},
            Code.LIMIT,
            "running jobs of the type 'report': 2 of at most 2",
            "No action is needed. To start jobs sooner: `spoke-jobs limits set each-type --max-running 3`.",
        ),
        (
            {},
            {"held": {KIND: Wait("QueueLimitReached", object="z", running=0, limit=0, source="limit queue:z")}},
            Code.LIMIT,
            "running jobs of the queue 'z': 0 of at most 0",
            "starts until somebody raises the limit: `spoke-jobs limits set queue:z --max-running 1`.",
        ),
        ({}, {}, Code.NO_WORKER, "no worker for the runner legacy takes them", "Start one: `spoke-jobs worker`."),
        ({}, {"load": (a_load(),)}, Code.WORKERS_BUSY, "wait for a free worker: 2 jobs run now", "more"),
        ({}, {"load": (a_load(running=1, lapsed=1),)}, Code.NO_WORKER, "no worker", "Start one"),
        (
            {},
            {"traces": (a_trace(job_id=50, job_type="export", claimed_at=before(seconds=20)),)},
            Code.PASSED_OVER,
            "of the type report are passed over",
            "Deploy workers whose SPOKE_APP declares report",
        ),
        (
            {"priority": -1},
            {
                "traces": (a_trace(job_id=50, job_type="export", claimed_at=before(seconds=20)),),
                "load": (a_load(),),
            },
            Code.WORKERS_BUSY,
            "free worker",
            "",
        ),
        ({"runner": "kubernetes"}, {}, Code.NOT_SUBMITTED, "have no SpokeJob yet", "Check that `spoke-jobs sync` runs"),
        ({"runner": "kubernetes", "submitted": True}, {}, Code.SUBMITTED, "have a SpokeJob", "kubectl get spokejobs"),
    ],
)
def test_what_waiting_jobs_wait_for(
    kind: dict[str, Any], around: dict[str, Any], reason: Code, text: str, advice: str
) -> None:
    each = waiting(**kind)
    if kind.get("later"):
        each = replace(each, oldest_at=after(minutes=1))
    group = only(groups(crowd(each, **around)))
    assert (group.state, group.reason, group.count) == ("blocked" if kind.get("blocked") else "waiting", reason, 3)
    assert text in group.text
    assert advice in group.advice
    assert {kind: found.code for kind, found in reasons(crowd(each, **around)).items()} == {each.kind: reason}


def test_the_age_of_one_job_is_not_that_of_the_oldest() -> None:
    assert oldest_of(only(groups(crowd(waiting(1)))), NOW) == "for 1 min"
    assert oldest_of(only(groups(crowd(waiting(2)))), NOW) == "the oldest for 1 min"
    assert oldest_of(only(groups(crowd(failed=(failed(),)))), NOW) == ""
    assert oldest_of(only(groups(crowd(waiting(2, after(minutes=1), later=True)))), NOW) == ""


def test_jobs_that_have_just_become_due_are_no_problem() -> None:
    group = only(groups(crowd(waiting(1, before(seconds=1)))))
    assert (group.reason, group.advice) == (Code.NEXT, "")
    assert group.text.startswith("has just become due: it starts when")
    assert only(groups(crowd(waiting(2, before(seconds=1))))).text.startswith("have just become due: they start when")


def test_jobs_that_no_worker_takes_have_not_just_become_due() -> None:
    """A worker runs, and its patterns leave them out."""
    alive = {"traces": (a_trace(heartbeat_at=before(seconds=1)),)}
    old, new = groups(crowd(waiting(2), waiting(1, before(seconds=1), 50, job_type="export"), **alive))
    assert (old.reason, old.count, new.reason, new.count) == (Code.NEXT, 2, Code.NEXT, 1)
    assert old.text == "are due, and no worker has taken them yet"
    assert "`--type`, `--queue` and `--exclude-*`" in old.advice
    assert (new.text.startswith("has just become due"), new.advice) == (True, "")


def test_jobs_that_another_job_or_a_pause_held_back_until_now_need_no_action() -> None:
    alive = {"traces": (a_trace(heartbeat_at=before(seconds=1)),)}
    group = only(groups(crowd(waiting(2), rules_since=before(seconds=2), **alive)))
    assert (group.text, group.advice) == ("are due, and no worker has taken them yet", "")


def test_kinds_with_one_reason_are_one_group_and_the_largest_is_the_first() -> None:
    found = groups(
        crowd(
            waiting(2, job_type="export", later=True),
            waiting(3, oldest_at=before(minutes=5), first_id=8),
            waiting(4, job_type="export", first_id=9),
            waiting(1, holder=9),
            waiting(1, holder=10),
        )
    )
    assert [(group.reason, group.count) for group in found] == [
        (Code.NO_WORKER, 7),
        (Code.DUE_LATER, 2),
        (Code.QUEUE_LOCK, 1),
        (Code.QUEUE_LOCK, 1),
    ]
    assert (found[0].oldest_at, found[0].job_id) == (before(minutes=5), 8)


class TestBusyWorkers:
    WAITS = waiting(3073, first_id=100, oldest_at=before(minutes=36))
    FLOOD = Share("import_products", 245, 3043, 8)

    def test_a_flood_is_named_with_a_limit_that_leaves_room_for_others(self) -> None:
        group = only(groups(crowd(self.WAITS, load=(a_load(running=8),), shares={"legacy": self.FLOOD})))
        assert group.text == (
            "are due and wait for a free worker: 8 jobs run now; 3,043 of the waiting jobs, and 8 of the running ones, "
            "are import_products of organization 245"
        )
        assert group.advice == (
            "To start jobs sooner, start more workers. To leave room for others: "
            "`spoke-jobs limits set organization:245 --max-running 4`."
        )

    @pytest.mark.parametrize(
        "changes",
        [{"waiting": 1000}, {"waiting": 4000}],
        ids=["they are few", "a limit holds some of them back, so they are not in the group"],
    )
    def test_what_is_not_most_of_the_group_is_not_named(self, changes: dict[str, int]) -> None:
        share = self.FLOOD._replace(**changes)
        group = only(groups(crowd(self.WAITS, load=(a_load(),), shares={"legacy": share})))
        assert "import_products" not in group.text
        assert group.advice == "To start jobs sooner, start more workers."

    @pytest.mark.parametrize("changes", [{"waiting": 3073}, {"running": 0}], ids=["nobody else waits", "none runs"])
    def test_a_limit_that_helps_nobody_is_not_advised(self, changes: dict[str, int]) -> None:
        share = self.FLOOD._replace(**changes)
        group = only(groups(crowd(self.WAITS, load=(a_load(),), shares={"legacy": share})))
        assert "import_products" in group.text
        assert group.advice == "To start jobs sooner, start more workers."

    def test_a_short_wait_needs_no_action(self) -> None:
        group = only(groups(crowd(waiting(3, oldest_at=before(seconds=50)), load=(a_load(),))))
        assert (group.reason, group.advice) == (Code.WORKERS_BUSY, "")


def test_failed_jobs_have_one_command_for_all_of_them() -> None:
    by_error, by_cause, unknown = groups(
        crowd(
            failed=(
                failed(),
                failed(cause="OutOfMemory", fingerprint="", count=5, types=3),
                failed(cause="FromANewerRelease", fingerprint="", count=1),
            )
        )
    )
    assert by_error.text == (
        "of the type import_contacts failed with JobError: ValueError@shop.importing.load_rows, most recently "
        "2 min ago (job 77)"
    )
    assert by_error.advice == (
        "Read the message: `spoke-jobs show 77`; fix the job or its input, then "
        "`spoke-jobs retry --failed --type import_contacts --fingerprint ValueError@shop.importing.load_rows`."
    )
    assert by_cause.text.startswith("of 3 types failed with OutOfMemory, most recently")
    assert [group.job_type for group in (by_error, by_cause)] == ["import_contacts", ""]
    assert by_cause.advice.endswith("then `spoke-jobs retry --failed --cause OutOfMemory`.")
    assert unknown.advice == ""


def test_a_pause_that_may_be_forgotten_says_whom_to_ask() -> None:
    def advised(**wait: Any) -> str:
        values = {
            "object": "type:report",
            "source": "the pause of type:report",
            "by": "tomas",
            "paused_since": before(days=7),
        }
        return only(groups(crowd(waiting(), held={KIND: Wait("Paused", **(values | wait))}))).advice

    end = "To end the pause: `spoke-jobs resume type:report`."
    assert advised() == f"This pause has no end, and has lasted 7 d: ask tomas whether it is still wanted. {end}"
    assert advised(by="") == f"This pause has no end, and has lasted 7 d. {end}"
    assert advised(retry_at=after(days=1)) == end
    assert advised(paused_since=before(hours=23)) == end


def test_a_job_that_hangs_with_a_lock_does_not_look_like_a_long_one() -> None:
    hangs = a_holder(since=before(hours=3), progressed_at=before(minutes=90), usual_seconds=33.0)
    group = only(groups(crowd(waiting(30, holder=9), holders={9: hangs})))
    assert group.text == (
        "wait for job 9 (import_contacts), which has held the lock of 7:contacts for 3 h, 40 % done, with no progress "
        "since 10:30:00 (1 h 30 min ago); its type usually takes 33 s"
    )
    assert group.holder_id == 9
    long = replace(hangs, progressed_at=before(seconds=2), usual_seconds=7200.0)
    group = only(groups(crowd(waiting(30, holder=9), holders={9: long})))
    assert group.text.endswith("for 3 h, 40 % done")


@pytest.mark.parametrize(
    ("kind", "around", "where"),
    [
        ({}, {"load": (a_load(),)}, {"state": "waiting"}),
        ({"blocked": True}, {}, {"state": "blocked"}),
        ({"holder": 9}, {"holders": {9: a_holder()}}, {"state": "waiting", "queue": "7:contacts"}),
        (
            {"later": True, "cause": "JobError", "fingerprint": "E@f"},
            {},
            {"state": "waiting", "cause": "JobError", "fingerprint": "E@f"},
        ),
        (
            {},
            {"held": {KIND: Wait("Paused", object="type:report", source="the pause of type:report")}},
            {"state": "waiting", "type": "report"},
        ),
        (
            {},
            {"held": {KIND: Wait("TypeLimitReached", object="report", source="limit each-type")}},
            {"state": "waiting"},
        ),
        (
            {},
            {"traces": (a_trace(job_id=50, job_type="export", claimed_at=before(seconds=20)),)},
            {"state": "waiting", "type": "report"},
        ),
    ],
)
def test_the_list_that_has_the_jobs_of_a_group(
    kind: dict[str, Any], around: dict[str, Any], where: dict[str, str]
) -> None:
    at = after(minutes=1) if kind.get("later") else before(minutes=1)
    assert dict(only(groups(crowd(waiting(2, at, **kind), **around))).where) == where
    assert only(groups(crowd(waiting(1, at, **kind), **around))).where == ()


class TestFactsOfFailures:
    def test_the_message_stands_beside_the_advice(self) -> None:
        facts = {77: FailureFacts("ValueError: customer 88260\n has no VAT number", "ValueError")}
        group = only(groups(crowd(failed=(failed(),), facts=facts)))
        assert group.message == "ValueError: customer 88260 has no VAT number"
        assert group.advice == (
            "Fix the job or its input, then "
            "`spoke-jobs retry --failed --type import_contacts --fingerprint ValueError@shop.importing.load_rows`."
        )

    def test_a_crash_names_its_signal_and_a_type_that_no_longer_succeeds_can_be_paused(self) -> None:
        crashes = failed(cause="Killed", fingerprint="", job_type="resize_images", count=35, oldest_at=before(hours=4))
        facts = FailureFacts("The job's process was killed by a signal. (SIGSEGV)", "SIGSEGV", before(hours=38))
        group = only(groups(crowd(failed=(crashes,), facts={77: facts})))
        assert group.text == (
            "of the type resize_images failed with Killed (SIGSEGV), most recently 2 min ago (job 77); no job of the "
            "type has succeeded since the first of them, at 08:00:00: the last success was 1 d 14 h ago"
        )
        assert group.advice.startswith("Native code of the job has crashed (SIGSEGV).")
        assert "`spoke-jobs retry --failed --type resize_images --cause Killed`" in group.advice
        assert group.advice.endswith(
            "Until then, no more of them fail after `spoke-jobs pause type:resize_images --reason Killed`."
        )

    @pytest.mark.parametrize(
        ("failures", "succeeded"),
        [
            ({}, before(minutes=90)),
            ({}, None),
            ({"count": 2}, before(days=3)),
            ({"types": 2}, before(days=3)),
            ({"cause": "Cancelled"}, before(days=3)),
        ],
        ids=["one has succeeded", "nothing is known", "they are few", "several types", "somebody cancelled them"],
    )
    def test_otherwise_no_pause_is_advised(self, failures: dict[str, Any], succeeded: datetime | None) -> None:
        facts = FailureFacts("no", last_success_at=succeeded)
        group = only(groups(crowd(failed=(failed(**failures),), facts={77: facts})))
        assert "succeeded" not in group.text
        assert "pause" not in group.advice

    def test_memory_that_grows_from_success_to_success_is_named(self) -> None:
        def found(*mebibytes: int, **changes: Any) -> Group:
            peaks = tuple(each * 2**20 for each in mebibytes)
            facts = FailureFacts("the limit is 1024Mi", executor=Executor.WORKERS, peaks=peaks)
            of_type = failed(cause="OutOfMemory", fingerprint="", **changes)
            return only(groups(crowd(failed=(of_type,), facts={77: facts})))

        grown = found(1011, 900, 800, 700, 661)
        assert grown.text.endswith("; the memory of its newest 5 successes grew from 661 MiB to 1,011 MiB")
        assert grown.advice.startswith(
            "Raise the memory that it may have in a worker (`spoke-jobs worker --job-memory`"
        )
        for other in (found(700, 690, 680, 670, 661), found(1011, 661), found(9, 8, 7, 6, 5, types=2)):
            assert "grew" not in other.text

    def test_types_that_a_filter_would_read_as_patterns_are_left_out(self) -> None:
        group = only(groups(crowd(failed=(failed(job_type="all*"),))))
        assert "--type" not in group.advice

    def test_the_job_after_a_failed_batch_names_the_batch(self) -> None:
        facts = {77: FailureFacts("batch 2", batch=Batch(id=2, name="march", created_at=NOW))}
        one = failed(cause="DependencyFailed", fingerprint="", count=1)
        assert "`spoke-jobs retry --failed --batch 2`" in only(groups(crowd(failed=(one,), facts=facts))).advice
        two = replace(one, count=2)
        assert "--batch BATCH" in only(groups(crowd(failed=(two,), facts=facts))).advice, "the other may follow another"

    def test_jobs_that_are_tried_again_after_the_same_message_are_one_group(self) -> None:
        def unreachable(number: int, place: str) -> WaitingCount:
            kind: dict[str, Any] = {"later": True, "cause": "DatabaseUnreachable", "fingerprint": f"E@shop.{place}"}
            return waiting(number, after(minutes=number), first_id=number, **kind)

        counts = (unreachable(3, "stock"), unreachable(4, "payments"), unreachable(5, "invoices"))
        facts = dict.fromkeys((3, 4), FailureFacts("connection refused")) | {5: FailureFacts("another")}
        joined, other = groups(crowd(*counts, facts=facts))
        assert (joined.count, joined.message, joined.fingerprint, joined.job_id) == (7, "connection refused", "", 3)
        assert joined.text == (
            "failed with DatabaseUnreachable at 2 places and are tried again, the first at 12:03:00 (in 3 min)"
        )
        assert joined.advice.startswith("Check the database that the message names")
        assert (other.count, other.fingerprint) == (5, "E@shop.invoices")
        assert len(groups(crowd(*counts))) == 3, "their messages are not known"

    def test_suspended_jobs_are_not_tried_again(self) -> None:
        held = waiting(3, later=True, suspended=True, cause="JobError", fingerprint="KeyError@shop.f")
        group = only(groups(crowd(held, facts={40: FailureFacts("KeyError: 7")})))
        assert (group.text, group.message) == ("are suspended", "")
        assert tried_again(crowd(held)) == 0


def test_only_the_largest_groups_of_each_state_are_made() -> None:
    everything = crowd(
        waiting(3, holder=7), waiting(9, holder=8), waiting(5, holder=9), failed=(failed(count=1), failed(count=6))
    )
    assert [(group.state, group.count) for group in groups(everything, most=1)] == [("waiting", 9), ("failed", 6)]
    whole = groups(everything)
    assert [group.count for group in whole] == [9, 5, 3, 6, 1]
    assert groups(everything, most=2) == (*whole[:2], *whole[3:])


def test_each_code_of_waiting_jobs_follows_from_a_reason() -> None:
    notes = {Code.START_BY, Code.TURN, Code.CLUSTER_UNKNOWN, Code.MOVED, Code.MOVES, Code.STANDBY}
    states = {Code.RUNNING, Code.LEASE_LAPSED, Code.HOLDS_UP, Code.CANCELLING, Code.SUCCEEDED, Code.FAILED}
    assert {reason.code for reason in WaitReason} == set(Code) - notes - states


def test_the_page_shows_what_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = groups(
        crowd(
            WaitingCount(CLUSTER, 12, before(minutes=9), 200),
            waiting(4, first_id=41, oldest_at=before(minutes=3), holder=9),
            failed=(failed(), failed(cause="OutOfMemory", fingerprint="", count=5, newest_id=81)),
            facts={77: FailureFacts("ValueError: row 17 has no amount")},
            holders={9: a_holder()},
        ),
        [spokejob(number, "ClusterFull", object="memory") for number in range(1, 13)],
    )
    print_groups(found, 86_400, NOW)
    printed = "".join(f"{line.rstrip()}\n" for line in capsys.readouterr().out.splitlines())
    example = re.search(r"^\$ spoke-jobs why\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert example
    assert example[1] == printed


def test_every_situation_of_the_page_has_its_group() -> None:
    page = PAGE.read_text()
    table = page[page.index("## All jobs at once") :]
    headings = re.findall(r"^### (.*)$", page[page.index("## It waits") : page.index("## It runs")], re.M)
    missing = [heading for heading in headings if f"[{heading}](#" not in table]
    assert missing == []
