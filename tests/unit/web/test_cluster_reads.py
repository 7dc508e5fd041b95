"""A page waits for the cluster only briefly, and leaves no work behind."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from tests.unit.explain.situations import a_job
from tests.waiting import patient

from spoke_jobs.cluster.cluster_view import ClusterView, PodTail, SpokeJobWaits
from spoke_jobs.cluster.namespace_view import NamespaceView
from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, SpokeJob, SpokeJobStatus
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.model import JobRequest
from spoke_jobs.shared.api_errors import ApiUnavailable
from spoke_jobs.web import cluster_reads
from spoke_jobs.web.cluster_reads import SLOW, ClusterReads


def test_pages_share_what_one_read_has_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each live page would list all SpokeJobs every few seconds."""
    found = [SpokeJobWaits(problem=text) for text in ("first", "second")]
    monkeypatch.setattr(cluster_reads, "waits_in", lambda _namespace: found.pop(0))
    monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
    now = 100.0
    reads = ClusterReads("jobs", lambda: now)
    try:
        assert [reads.waits().problem for _ in range(3)] == ["first"] * 3
        now += cluster_reads.SHARED_SECONDS - 0.1
        assert reads.waits().problem == "first"
        now += 0.1
        assert reads.waits().problem == "second"
    finally:
        reads.close()


def test_an_error_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | SpokeJobWaits] = [RuntimeError(), SpokeJobWaits(problem="none")]

    def waits_in(_namespace: str) -> SpokeJobWaits:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(cluster_reads, "waits_in", waits_in)
    monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
    reads = ClusterReads("jobs")
    try:
        with pytest.raises(RuntimeError):
            reads.waits()
        assert reads.waits().problem == "none"
    finally:
        reads.close()


def test_a_slow_read_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    answers = threading.Event()

    def waits_in(namespace: str) -> SpokeJobWaits:
        begun.append(namespace)
        answers.wait(patient(60))
        return SpokeJobWaits()

    monkeypatch.setattr(cluster_reads, "waits_in", waits_in)
    monkeypatch.setattr(cluster_reads, "SECONDS", 0.01)
    reads = ClusterReads("jobs")
    try:
        assert [reads.waits().problem for _ in range(3)] == [SLOW] * 3
        answers.set()
        monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
        assert reads.waits().problem == ""
        assert begun == ["jobs"]
    finally:
        answers.set()
        reads.close()


def test_a_page_waits_once_for_two_slow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are under way at the same time. One that is late takes nothing from the other."""
    answers = threading.Event()

    def namespace_in(namespace: str) -> NamespaceView:
        answers.wait(patient(60))
        return NamespaceView(namespace, state_problem="read")

    monkeypatch.setattr(cluster_reads, "namespace_in", namespace_in)
    monkeypatch.setattr(cluster_reads, "waits_in", lambda _namespace: SpokeJobWaits(problem="read"))
    monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
    reads = ClusterReads("jobs")
    try:
        assert reads.waits().problem == "read"
        monkeypatch.setattr(cluster_reads, "SECONDS", 0.01)
        state, waits = reads.namespace()
        assert (state.namespace, state.problem, waits.problem) == ("jobs", SLOW, "read")
        answers.set()
        monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
        state, waits = reads.namespace()
        assert (state.state_problem, state.problem, waits.problem) == ("read", "", "read")
    finally:
        answers.set()
        reads.close()


def test_a_glance_waits_for_nothing_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that is away would hold up each overview otherwise."""
    answers, now, begun = threading.Event(), 100.0, 0

    def namespace_in(namespace: str) -> NamespaceView:
        nonlocal begun
        begun += 1
        number = begun
        answers.wait(patient(60))
        return NamespaceView(namespace, state_problem=f"read {number}")

    monkeypatch.setattr(cluster_reads, "namespace_in", namespace_in)
    monkeypatch.setattr(cluster_reads, "GLANCE_SECONDS", 0.01)
    reads = ClusterReads("jobs", lambda: now)

    def glance() -> str:
        seen = reads.glance()
        return seen.state_problem if seen is not None else "nothing"

    try:
        reads.expect_namespace()
        assert [glance(), glance()] == ["nothing"] * 2
        answers.set()
        monkeypatch.setattr(cluster_reads, "GLANCE_SECONDS", patient(60))
        assert glance() == "read 1"
        answers.clear()
        now += cluster_reads.SHARED_SECONDS
        assert [glance(), glance()] == ["read 1"] * 2, "while the second read is under way"
        now += 30.0
        monkeypatch.setattr(cluster_reads, "GLANCE_SECONDS", 0.01)
        assert glance() == "nothing", "what is that old is not shown"
        answers.set()
        monkeypatch.setattr(cluster_reads, "GLANCE_SECONDS", patient(60))
        assert glance() == "read 2"
        assert begun == 2
    finally:
        answers.set()
        reads.close()


def test_a_read_that_nobody_waits_for_any_more_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the reads for all pages of an outage would follow once the cluster answers."""
    monkeypatch.setattr(cluster_reads, "_THREADS", 1)
    begun: list[int] = []

    def view_of(job: JobRequest, _namespace: str, *, around: bool) -> ClusterView:
        begun.append(job.id)
        return ClusterView("a-spokejob")

    monkeypatch.setattr(cluster_reads, "view_of", view_of)
    reads, answers = ClusterReads("jobs"), threading.Event()
    reads._threads.submit(answers.wait, patient(60))  # a read that gets no answer

    def problem(job_id: int) -> str:
        view = reads.view(a_job(id=job_id, runner="kubernetes"), around=True)
        assert view is not None
        return view.problem

    try:
        monkeypatch.setattr(cluster_reads, "SECONDS", 0.01)
        assert [problem(job_id) for job_id in (1, 2, 3)] == [SLOW] * 3
        answers.set()
        monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
        assert problem(4) == ""
        assert begun == [4]
    finally:
        answers.set()
        reads.close()


def seen(
    pod: str = "report-1-x", lane: str = "", ago_seconds: float | None = 60, before: tuple[str, ...] = ()
) -> ClusterView:
    """What is read of a SpokeJob whose attempt has run for so long, after attempts in other pods."""
    runs = None if ago_seconds is None else datetime.now(UTC) - timedelta(seconds=ago_seconds)
    attempts = [AttemptStatus(number=number, job="report-1", pod=name) for number, name in enumerate(before, 1)]
    attempts.append(AttemptStatus(number=len(before) + 1, job="report-1", pod=pod, lane=lane, runs_since=runs))
    read = SpokeJob.from_object(
        {
            "metadata": {"name": "n", "namespace": "jobs", "uid": "u", "resourceVersion": "1"}
            | {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"uid": str(UUID(int=7)), "requestId": 12, "jobType": "report"},
        }
    )
    return ClusterView("n", "jobs", read.model_copy(update={"status": SpokeJobStatus(attempts=tuple(attempts))}))


def test_of_each_pod_it_is_read_once_when_its_image_was_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server looks through all events of the namespace for it, and live pages ask every few seconds."""
    monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
    monkeypatch.setattr(cluster_reads, "_PULLS", 2)
    at, asked = datetime.now(UTC), list[str]()

    def pulled_in(pod: str, _namespace: str) -> datetime | None:
        asked.append(pod)
        return at if pod != "c" else None

    monkeypatch.setattr(cluster_reads, "pulled_in", pulled_in)
    reads = ClusterReads("jobs")
    try:
        assert [reads.pulled(seen(pod)) for pod in ("a", "a", "b", "c", "c")] == [
            *({"a": at}, {"a": at}, {"b": at}),
            *({}, {}),
        ]
        assert asked == ["a", "b", "c"]
        assert reads.pulled(seen("a")) == {"a": at}
        assert asked[3:] == ["a"], "only some pods are kept"
    finally:
        reads.close()


def test_what_was_read_of_the_pods_of_earlier_attempts_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
    at, asked = datetime.now(UTC), list[str]()

    def pulled_in(pod: str, _namespace: str) -> datetime:
        asked.append(pod)
        return at

    monkeypatch.setattr(cluster_reads, "pulled_in", pulled_in)
    reads = ClusterReads("jobs")
    try:
        reads.pulled(seen("a"))
        assert reads.pulled(seen("c", before=("a", "b"))) == {"a": at, "c": at}
        assert reads.pulled(seen("d", "standby", before=("a", "b", "c"))) == {"a": at, "c": at}
        assert asked == ["a", "c"]
    finally:
        reads.close()


@pytest.mark.parametrize(
    "error", [ApiUnavailable(0, "", "no answer"), ConfigurationError("no credentials")], ids=["away", "no credentials"]
)
def test_an_error_does_not_say_when_an_image_was_pulled(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """So the next page asks again."""
    monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
    at = datetime.now(UTC)
    answers: list[datetime | Exception] = [error, at]

    def pulled_in(_pod: str, _namespace: str) -> datetime:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(cluster_reads, "pulled_in", pulled_in)
    reads = ClusterReads("jobs")
    try:
        assert [reads.pulled(seen()) for _ in range(3)] == [{}, {"report-1-x": at}, {"report-1-x": at}]
    finally:
        reads.close()


@pytest.mark.parametrize(
    "view",
    [
        None,
        ClusterView("n", "jobs"),
        seen(ago_seconds=None),
        seen(ago_seconds=-86_400),  # from when the tests are collected
        seen(ago_seconds=4_000),
        seen(lane="standby"),
        seen(""),
        seen("../../../secrets"),
    ],
    ids=["no cluster", "no SpokeJob", "not started", "just started", "long ago", "standby", "no pod", "no name"],
)
def test_nobody_is_asked_when_an_image_was_pulled_if_no_event_can_say_it(
    monkeypatch: pytest.MonkeyPatch, view: ClusterView | None
) -> None:
    monkeypatch.setattr(cluster_reads, "pulled_in", lambda _pod, _namespace: pytest.fail("was asked"))
    reads = ClusterReads("jobs")
    try:
        assert reads.pulled(view) == {}
    finally:
        reads.close()


def test_a_page_does_not_wait_long_for_the_time_of_a_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    at = datetime.now(UTC)

    def pulled_in(_pod: str, _namespace: str) -> datetime:
        answers.wait(patient(60))
        return at

    monkeypatch.setattr(cluster_reads, "pulled_in", pulled_in)
    monkeypatch.setattr(cluster_reads, "SECONDS", 0.01)
    reads = ClusterReads("jobs")
    try:
        assert reads.pulled(seen()) == {}
        answers.set()
        monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
        assert reads.pulled(seen()) == {"report-1-x": at}
    finally:
        answers.set()
        reads.close()


def test_those_who_follow_a_pod_share_what_is_read_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
    monkeypatch.setattr(cluster_reads, "_FOLLOWED", 2)
    read: list[str] = []

    def tail_in(pod: str, namespace: str) -> PodTail:
        read.append(pod)
        return PodTail((f"{pod} in {namespace}",))

    monkeypatch.setattr(cluster_reads, "tail_in", tail_in)
    now = 100.0
    reads = ClusterReads("jobs", lambda: now)
    try:
        assert [reads.tail(pod).lines for pod in ("a", "a", "b")] == [("a in jobs",)] * 2 + [("b in jobs",)]
        assert read == ["a", "b"]
        now += cluster_reads.FOLLOWED_SHARED_SECONDS
        reads.tail("a")
        assert read[2:] == ["a"]
        for pod in ("c", "a", "b"):  # b was asked for before a
            reads.tail(pod)
        assert read[3:] == ["c", "b"]
    finally:
        reads.close()


def test_nodes_that_do_not_answer_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def tail_in(_pod: str, _namespace: str) -> PodTail:
        answers.wait(patient(60))
        return PodTail()

    monkeypatch.setattr(cluster_reads, "tail_in", tail_in)
    monkeypatch.setattr(cluster_reads, "waits_in", lambda _namespace: SpokeJobWaits(problem="read"))
    monkeypatch.setattr(cluster_reads, "SECONDS", 0.01)
    reads = ClusterReads("jobs")
    try:
        assert {reads.tail(str(pod)).problem for pod in range(9)} == {SLOW}
        monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
        assert reads.waits().problem == "read"
    finally:
        answers.set()
        reads.close()


def test_those_who_follow_an_output_wait_for_it_only_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take what was read last, or what was wrong then."""
    answers = threading.Event()
    read: list[str] = []

    def tail_in(pod: str, _namespace: str) -> PodTail:
        read.append(pod)
        if len(read) > 1:
            answers.wait(patient(60))
        return PodTail((f"line {len(read)}",), "away" if len(read) > 2 else "")

    monkeypatch.setattr(cluster_reads, "tail_in", tail_in)
    monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
    now = 100.0
    reads = ClusterReads("jobs", lambda: now)
    try:
        assert reads.tail("a", patient(60)).lines == ("line 1",)
        now += cluster_reads.FOLLOWED_SHARED_SECONDS
        assert reads.tail("a", 0.01).lines == ("line 1",), "known from before"
        assert reads.tail("b", 0.01).problem == cluster_reads.NOT_YET
        answers.set()
        assert {reads.tail("a").problem, reads.tail("b").problem} == {"away"}
        answers.clear()
        now += cluster_reads.FOLLOWED_SHARED_SECONDS
        assert reads.tail("a", 0.01).problem == "away"
    finally:
        answers.set()
        reads.close()


def test_those_who_follow_a_job_share_what_is_read_of_its_spokejob(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    answers.set()
    read: list[int] = []

    def view_of(job: JobRequest, _namespace: str, *, around: bool) -> ClusterView:
        assert not around
        read.append(job.id)
        answers.wait(patient(60))
        return ClusterView(f"read-{len(read)}")

    monkeypatch.setattr(cluster_reads, "view_of", view_of)
    now = 100.0
    reads = ClusterReads("jobs", lambda: now)

    def name(job_id: int, within_seconds: float) -> tuple[str, str]:
        view = reads.followed_view(a_job(id=job_id, runner="kubernetes"), within_seconds)
        assert view is not None
        return view.name, view.problem

    try:
        assert reads.followed_view(a_job(), 0) is None
        assert [name(job_id, patient(60)) for job_id in (1, 1, 2)] == [("read-1", "")] * 2 + [("read-2", "")]
        answers.clear()
        now += cluster_reads.FOLLOWED_SHARED_SECONDS
        assert name(1, 0.01) == ("read-1", "")
        assert name(3, 0.01)[1] == cluster_reads.NOT_YET
        answers.set()
        assert name(3, patient(60))[1] == ""
        assert sorted(read) == [1, 1, 2, 3]
    finally:
        answers.set()
        reads.close()


def test_reads_of_output_that_are_under_way_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise those that nobody waits for any more would fill the queue while the cluster is away."""
    monkeypatch.setattr(cluster_reads, "_FOLLOWED", 2)
    answers = threading.Event()
    read: list[str] = []

    def tail_in(pod: str, _namespace: str) -> PodTail:
        read.append(pod)
        answers.wait(patient(60))
        return PodTail((pod,))

    monkeypatch.setattr(cluster_reads, "tail_in", tail_in)
    monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
    reads = ClusterReads("jobs")
    try:
        problems = [reads.tail(pod, 0.01).problem for pod in ("a", "b", "c", "a", "c")]
        late, many = cluster_reads.NOT_YET, cluster_reads.TOO_MANY
        assert problems == [late, late, many, late, many]
        answers.set()
        assert [reads.tail(pod).lines for pod in ("a", "b", "c")] == [("a",), ("b",), ("c",)]
        assert sorted(read) == ["a", "b", "c"]
    finally:
        answers.set()
        reads.close()
