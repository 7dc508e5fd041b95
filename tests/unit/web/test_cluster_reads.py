"""A page waits for the cluster only briefly, and leaves no work behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.unit.explain.situations import a_job
from tests.waiting import patient

from spoke_jobs.cluster.cluster_view import ClusterView, PodTail, SpokeJobWaits
from spoke_jobs.cluster.namespace_view import NamespaceView
from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, SpokeJob, SpokeJobStatus
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.api_errors import ApiUnavailable
from spoke_jobs.web import cluster_reads
from spoke_jobs.web.cluster_reads import SLOW, ClusterReads


class Scene:
    """Pages that read a cluster, a clock, and whether the cluster answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.answers = threading.Event()
        self._patch = monkeypatch
        self.patient()
        self.reads = ClusterReads("jobs", lambda: self.now)

    def answer(self, name: str, found: Any) -> list[Any]:
        """Let a read wait until the cluster answers, and find this. Return what is asked for."""
        asked: list[Any] = []

        def read(about: Any, *_: object, **__: object) -> Any:
            asked.append(getattr(about, "id", about))
            self.answers.wait(patient(60))
            answer = found(about) if callable(found) else found.pop(0) if isinstance(found, list) else found
            if isinstance(answer, Exception):
                raise answer
            return answer

        self._patch.setattr(cluster_reads, name, read)
        return asked

    def patient(self) -> None:
        """Let pages wait for the cluster, which answers."""
        self.answers.set()
        for name in ("SECONDS", "GLANCE_SECONDS"):
            self._patch.setattr(cluster_reads, name, patient(60))

    def hurried(self) -> None:
        """Let pages not wait for the cluster, which does not answer."""
        self.answers.clear()
        for name in ("SECONDS", "GLANCE_SECONDS"):
            self._patch.setattr(cluster_reads, name, 0.01)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(monkeypatch)
    yield scene
    scene.answers.set()
    scene.reads.close()


def test_pages_share_what_one_read_has_found(scene: Scene) -> None:
    """Otherwise each live page would list all SpokeJobs every few seconds."""
    scene.answer("waits_in", [SpokeJobWaits(problem=text) for text in ("first", "second")])
    assert [scene.reads.waits().problem for _ in range(3)] == ["first"] * 3
    scene.now += cluster_reads.SHARED_SECONDS - 0.1
    assert scene.reads.waits().problem == "first"
    scene.now += 0.1
    assert scene.reads.waits().problem == "second"


def test_an_error_is_not_shared(scene: Scene) -> None:
    scene.answer("waits_in", [RuntimeError(), SpokeJobWaits(problem="none")])
    with pytest.raises(RuntimeError):
        scene.reads.waits()
    assert scene.reads.waits().problem == "none"


def test_a_slow_read_is_the_only_one(scene: Scene) -> None:
    begun = scene.answer("waits_in", SpokeJobWaits())
    scene.hurried()
    assert [scene.reads.waits().problem for _ in range(3)] == [SLOW] * 3
    scene.patient()
    assert scene.reads.waits().problem == ""
    assert begun == ["jobs"]


def test_a_page_waits_once_for_two_slow_reads(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are under way at the same time. One that is late takes nothing from the other."""
    scene.answer("namespace_in", NamespaceView("jobs", state_problem="read"))
    monkeypatch.setattr(cluster_reads, "waits_in", lambda _namespace: SpokeJobWaits(problem="read"))
    assert scene.reads.waits().problem == "read"
    scene.hurried()
    state, waits = scene.reads.namespace()
    assert (state.namespace, state.problem, waits.problem) == ("jobs", SLOW, "read")
    scene.patient()
    state, waits = scene.reads.namespace()
    assert (state.state_problem, state.problem, waits.problem) == ("read", "", "read")


def test_a_glance_waits_for_nothing_that_is_known(scene: Scene) -> None:
    """A cluster that is away would hold up each overview otherwise."""
    views = [NamespaceView("jobs", state_problem=f"read {number}") for number in (1, 2)]
    begun = scene.answer("namespace_in", views)

    def glance() -> str:
        seen = scene.reads.glance()
        return seen.state_problem if seen is not None else "nothing"

    scene.hurried()
    scene.reads.expect_namespace()
    assert [glance(), glance()] == ["nothing"] * 2
    scene.patient()
    assert glance() == "read 1"
    scene.answers.clear()
    scene.now += cluster_reads.SHARED_SECONDS
    assert [glance(), glance()] == ["read 1"] * 2, "while the second read is under way"
    scene.now += 30.0
    scene.hurried()
    assert glance() == "nothing", "what is that old is not shown"
    scene.patient()
    assert glance() == "read 2"
    assert len(begun) == 2


def test_a_read_that_nobody_waits_for_any_more_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the reads for all pages of an outage would follow once the cluster answers."""
    monkeypatch.setattr(cluster_reads, "_THREADS", 1)
    scene = Scene(monkeypatch)
    begun = scene.answer("view_of", ClusterView("a-spokejob"))
    scene.hurried()
    scene.reads._threads.submit(scene.answers.wait, patient(60))  # a read that gets no answer

    def problem(job_id: int) -> str:
        view = scene.reads.view(a_job(id=job_id, runner="kubernetes"), around=True)
        assert view is not None
        return view.problem

    try:
        assert [problem(job_id) for job_id in (1, 2, 3)] == [SLOW] * 3
        scene.patient()
        assert problem(4) == ""
        assert begun == [4]
    finally:
        scene.answers.set()
        scene.reads.close()


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


def test_of_each_pod_it_is_read_once_when_its_image_was_pulled(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server looks through all events of the namespace for it, and live pages ask every few seconds."""
    monkeypatch.setattr(cluster_reads, "_PULLS", 2)
    at = datetime.now(UTC)
    asked = scene.answer("pulled_in", lambda pod: at if pod != "c" else None)
    found = [scene.reads.pulled(seen(pod)) for pod in ("a", "a", "b", "c", "c")]
    assert found == [{"a": at}, {"a": at}, {"b": at}, {}, {}]
    assert asked == ["a", "b", "c"]
    assert scene.reads.pulled(seen("a")) == {"a": at}
    assert asked[3:] == ["a"], "only some pods are kept"


def test_what_was_read_of_the_pods_of_earlier_attempts_is_kept(scene: Scene) -> None:
    at = datetime.now(UTC)
    asked = scene.answer("pulled_in", at)
    scene.reads.pulled(seen("a"))
    assert scene.reads.pulled(seen("c", before=("a", "b"))) == {"a": at, "c": at}
    assert scene.reads.pulled(seen("d", "standby", before=("a", "b", "c"))) == {"a": at, "c": at}
    assert asked == ["a", "c"]


@pytest.mark.parametrize(
    "error", [ApiUnavailable(0, "", "no answer"), ConfigurationError("no credentials")], ids=["away", "no credentials"]
)
def test_an_error_does_not_say_when_an_image_was_pulled(scene: Scene, error: Exception) -> None:
    """So the next page asks again."""
    at = datetime.now(UTC)
    scene.answer("pulled_in", [error, at])
    assert [scene.reads.pulled(seen()) for _ in range(3)] == [{}, {"report-1-x": at}, {"report-1-x": at}]


def test_nobody_is_asked_when_an_image_was_pulled_if_no_event_can_say_it(scene: Scene) -> None:
    asked = scene.answer("pulled_in", None)
    for view in (
        None,
        ClusterView("n", "jobs"),
        seen(ago_seconds=None),
        seen(ago_seconds=-600),
        seen(ago_seconds=4_000),
        seen(lane="standby"),
        seen(""),
        seen("../../../secrets"),
    ):
        assert scene.reads.pulled(view) == {}
    assert asked == []


def test_a_page_does_not_wait_long_for_the_time_of_a_pull(scene: Scene) -> None:
    at = datetime.now(UTC)
    scene.answer("pulled_in", at)
    scene.hurried()
    assert scene.reads.pulled(seen()) == {}
    scene.patient()
    assert scene.reads.pulled(seen()) == {"report-1-x": at}


def test_those_who_follow_a_pod_share_what_is_read_of_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_reads, "_FOLLOWED", 2)
    read = scene.answer("tail_in", lambda pod: PodTail((f"of {pod}",)))
    assert [scene.reads.tail(pod).lines for pod in ("a", "a", "b")] == [("of a",)] * 2 + [("of b",)]
    assert read == ["a", "b"]
    scene.now += cluster_reads.FOLLOWED_SHARED_SECONDS
    scene.reads.tail("a")
    assert read[2:] == ["a"]
    for pod in ("c", "a", "b"):  # b was asked for before a
        scene.reads.tail(pod)
    assert read[3:] == ["c", "b"]


def test_nodes_that_do_not_answer_hold_up_nothing_else(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.answer("tail_in", PodTail())
    monkeypatch.setattr(cluster_reads, "waits_in", lambda _namespace: SpokeJobWaits(problem="read"))
    scene.hurried()
    assert {scene.reads.tail(str(pod)).problem for pod in range(9)} == {SLOW}
    monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
    assert scene.reads.waits().problem == "read"


def test_those_who_follow_an_output_wait_for_it_only_briefly(scene: Scene) -> None:
    """They take what was read last, or what was wrong then."""
    scene.answer("tail_in", [PodTail(("line 1",)), *[PodTail(("line 2",), "away")] * 4])
    assert scene.reads.tail("a", patient(60)).lines == ("line 1",)
    scene.answers.clear()
    scene.now += cluster_reads.FOLLOWED_SHARED_SECONDS
    assert scene.reads.tail("a", 0.01).lines == ("line 1",), "known from before"
    assert scene.reads.tail("b", 0.01).problem == cluster_reads.NOT_YET
    scene.answers.set()
    assert {scene.reads.tail("a").problem, scene.reads.tail("b").problem} == {"away"}
    scene.answers.clear()
    scene.now += cluster_reads.FOLLOWED_SHARED_SECONDS
    assert scene.reads.tail("a", 0.01).problem == "away"


def test_those_who_follow_a_job_share_what_is_read_of_its_spokejob(scene: Scene) -> None:
    read = scene.answer("view_of", lambda job: ClusterView(f"of-{job.id}"))

    def name(job_id: int, within_seconds: float) -> tuple[str, str]:
        view = scene.reads.followed_view(a_job(id=job_id, runner="kubernetes"), within_seconds)
        assert view is not None
        return view.name, view.problem

    assert scene.reads.followed_view(a_job(), 0) is None
    assert [name(job_id, patient(60)) for job_id in (1, 1, 2)] == [("of-1", "")] * 2 + [("of-2", "")]
    scene.answers.clear()
    scene.now += cluster_reads.FOLLOWED_SHARED_SECONDS
    assert name(1, 0.01) == ("of-1", "")
    assert name(3, 0.01)[1] == cluster_reads.NOT_YET
    scene.answers.set()
    assert name(3, patient(60))[1] == ""
    assert sorted(read) == [1, 1, 2, 3]


def test_reads_of_output_that_are_under_way_have_a_bound(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise those that nobody waits for any more would fill the queue while the cluster is away."""
    monkeypatch.setattr(cluster_reads, "_FOLLOWED", 2)
    read = scene.answer("tail_in", lambda pod: PodTail((pod,)))
    scene.answers.clear()
    problems = [scene.reads.tail(pod, 0.01).problem for pod in ("a", "b", "c", "a", "c")]
    late, many = cluster_reads.NOT_YET, cluster_reads.TOO_MANY
    assert problems == [late, late, many, late, many]
    scene.answers.set()
    assert [scene.reads.tail(pod).lines for pod in ("a", "b", "c")] == [("a",), ("b",), ("c",)]
    assert sorted(read) == ["a", "b", "c"]
