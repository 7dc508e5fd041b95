from __future__ import annotations

import pickle
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from tests.unit.operator.world import NAME, NAMESPACE, World

from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.objects.read_objects import read_event
from spoke_jobs_operator.shell.api.operator_client import Kind
from spoke_jobs_operator.shell.store.store import Listed, Store
from spoke_jobs_operator.shell.store.warnings_seen import UNKNOWN, Bytes, WarningsSeen, _size_of

KEY = Key(NAMESPACE, NAME)


@pytest.fixture
def job() -> dict[str, Any]:
    world = World()
    owner = {"uid": world.spokejob["metadata"]["uid"], "controller": True}
    body = world._new(f"{NAME}-1", labels={"jobs.spoke.dev/spokejob": NAME, "jobs.spoke.dev/attempt": "1"})
    body["metadata"] |= {"ownerReferences": [owner], "resourceVersion": "50"}
    return body


def at(body: dict[str, Any], version: int) -> dict[str, Any]:
    body = deepcopy(body)
    body["metadata"]["resourceVersion"] = str(version)
    return body


def failed(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}


def test_an_older_version_replaces_no_newer_one(job: dict[str, Any]) -> None:
    store = Store()
    assert store.job_seen(job) == {KEY}
    assert store.job_seen(job) == set()
    assert store.job_seen(failed(at(job, 49))) == set()
    assert [(item.meta.resource_version, item.failed) for item in store.jobs.of(KEY)] == [(50, False)]
    assert store.job_seen(failed(at(job, 51))) == {KEY}
    assert [item.meta.resource_version for item in store.jobs.of(KEY)] == [51]


def test_a_newer_version_that_tells_nothing_new_is_kept_and_nobody_is_woken(job: dict[str, Any]) -> None:
    store = Store()
    store.job_seen(job)
    counted = at(job, 51) | {"status": {"active": 1, "uncountedTerminatedPods": {}}}
    assert store.job_seen(counted) == set()
    assert [item.meta.resource_version for item in store.jobs.of(KEY)] == [51], "a delete names the version"
    assert store.job_seen(failed(at(job, 52))) == {KEY}


def test_versions_are_compared_as_numbers(job: dict[str, Any]) -> None:
    store = Store()
    store.job_seen(at(job, 99))
    assert store.job_seen(failed(at(job, 100))) == {KEY}


def test_what_was_deleted_does_not_come_back(job: dict[str, Any]) -> None:
    store = Store()
    store.job_seen(job)
    assert store.job_seen(at(job, 60), gone=True) == {KEY}
    assert store.job_seen(at(job, 55)) == set()
    assert store.jobs.of(KEY) == ()


def test_what_left_the_selection_comes_back_with_its_label(job: dict[str, Any]) -> None:
    store = Store()
    store.job_seen(job)
    store.job_seen(at(job, 60), gone=True)
    assert store.job_seen(at(job, 61)) == {KEY}
    assert len(store.jobs.of(KEY)) == 1
    assert store.job_seen(at(job, 60), gone=True) == set(), "what is known is newer"
    store.jobs.remove_all(store.jobs.absent(Listed(None, frozenset(), 70)), 70)
    assert store.job_seen(at(job, 69)) == set()
    assert store.job_seen(at(job, 71)) == {KEY}
    store.jobs.remove(Key(NAMESPACE, f"{NAME}-1"), job["metadata"]["uid"])
    assert store.job_seen(at(job, 99)) == set(), "gone for good"


def test_a_deletion_that_comes_before_the_answer_to_the_creation_counts(job: dict[str, Any]) -> None:
    store = Store()
    store.job_seen(at(job, 60), gone=True)
    assert store.job_seen(job) == set()
    assert store.jobs.of(KEY) == ()


def test_the_deletion_of_an_earlier_object_of_the_name_leaves_the_later_one(job: dict[str, Any]) -> None:
    store = Store()
    earlier = deepcopy(job)
    earlier["metadata"]["uid"] = "earlier"
    store.job_seen(at(job, 70))
    assert store.job_seen(at(earlier, 71), gone=True) == set()
    assert len(store.jobs) == 1


def test_absence_from_a_listing_counts_only_for_what_is_older(job: dict[str, Any]) -> None:
    store = Store()
    store.job_seen(job)
    nothing: frozenset[str] = frozenset()
    assert store.jobs.absent(Listed(None, nothing, 49)) == []
    assert store.jobs.absent(Listed("elsewhere", nothing, 50)) == []
    assert len(store.jobs.absent(Listed(None, nothing, 50))) == 1
    assert store.jobs.absent(Listed(None, frozenset([job["metadata"]["uid"]]), 50)) == []


class ManySpokeJobs(RuleBasedStateMachine):
    """SpokeJobs come, end, change and go: a template always concerns the unfinished ones that name it."""

    names = st.sampled_from(["a", "b", "c"])
    templates = st.sampled_from(["default", "large"])

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.world = World()
        self.version = 1000
        self.expected: dict[str, tuple[str, bool]] = {}

    def body(self, name: str, template: str, *, final: bool) -> dict[str, Any]:
        self.version += 1
        body = at(self.world.spokejob, self.version)
        body["metadata"] |= {"name": name, "uid": name}
        body["spec"]["podTemplate"] = template
        body["status"] = {"outcome": "Failed" if final else "Running"}
        return body

    @rule(name=names, template=templates, final=st.booleans())
    def changes(self, name: str, template: str, final: bool) -> None:
        self.store.spokejob_seen(self.body(name, template, final=final))
        self.expected[name] = (template, final)

    @rule(name=names)
    def goes(self, name: str) -> None:
        template, final = self.expected.pop(name, ("default", False))
        self.store.spokejob_seen(self.body(name, template, final=final), gone=True)

    @rule()
    def is_missing_from_a_listing(self) -> None:
        self.store.spokejobs.remove_all(list(self.store.spokejobs), self.version)
        self.expected.clear()

    @rule(template=templates)
    def template_changes(self, template: str) -> None:
        self.version += 1
        body = at(self.world.objects[Kind.TEMPLATE]["default"], self.version)
        body["metadata"] |= {"name": template, "uid": template, "generation": self.version}
        concerned = {name for name, (used, final) in self.expected.items() if used == template and not final}
        assert self.store.template_seen(body) == {Key(NAMESPACE, name) for name in concerned}


ManySpokeJobs.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestManySpokeJobs = ManySpokeJobs.TestCase


def test_a_change_of_a_template_reads_only_the_spokejobs_that_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may change a PodTemplate may do so often, and others may have ten thousand SpokeJobs."""
    world = World()
    store = Store()
    store.spokejob_seen(world.spokejob)
    monkeypatch.setattr(Store, "unfinished", lambda _store: pytest.fail("reads all SpokeJobs"))
    assert store.template_seen(world.objects[Kind.TEMPLATE]["default"]) == {KEY}


@pytest.mark.parametrize(
    ("path", "value", "concerns"),
    [
        (("annotations", "kubectl.kubernetes.io/last-applied-configuration"), "x", False),
        (("annotations", "jobs.spoke.dev/of-another-release"), "x", False),
        (("managedFields",), [{"manager": "other"}], False),
        (("annotations", "example.com/goes-to-the-job"), "x", True),
        (("annotations", "jobs.spoke.dev/max-resources"), "cpu=2", True),
        (("annotations", "jobs.spoke.dev/max-resources"), "cpu", True),
        (("labels", "jobs.spoke.dev/template"), "false", True),
        (("labels", "team"), "a", True),
        (("generation",), 2, True),
    ],
)
def test_a_template_concerns_them_only_if_their_jobs_or_rights_change(
    path: tuple[str, ...], value: object, concerns: bool
) -> None:
    world = World()
    store = Store()
    store.spokejob_seen(world.spokejob)
    changed = at(world.objects[Kind.TEMPLATE]["default"], 999)
    store.template_seen(changed)
    changed = at(changed, 1000)
    within = changed["metadata"]
    for name in path[:-1]:
        within = within.setdefault(name, {})
    within[path[-1]] = value
    assert store.template_seen(changed) == ({KEY} if concerns else set())
    found = store.templates.get(Key(NAMESPACE, "default"))
    assert found
    assert found.meta.resource_version == 1000, "stored in any case"


def test_events_are_kept_by_job_and_the_newest_counts(job: dict[str, Any]) -> None:
    store = Store()
    event = {
        "metadata": {"name": "e", "namespace": NAMESPACE, "resourceVersion": "5"},
        "involvedObject": {"kind": "Job", "namespace": NAMESPACE, "name": f"{NAME}-1", "uid": job["metadata"]["uid"]},
        "reason": "FailedCreate",
        "message": "one",
    }
    assert store.event_seen(event) == set(), "its Job isn't known yet"
    store.job_seen(job)
    assert [item.message for item in store.events_of(store.jobs.of(KEY))] == ["one"]
    assert store.event_seen(at(event, 6) | {"message": "two"}) == {KEY}
    assert store.event_seen(event) == set()
    assert [item.message for item in store.events_of(store.jobs.of(KEY))] == ["two"]
    store.job_seen(at(job, 60), gone=True)
    assert len(store._warnings) == 0


def warning(namespace: str, number: int, version: int = 5) -> dict[str, Any]:
    return {
        "metadata": {"name": f"e{number}", "namespace": namespace, "resourceVersion": str(version)},
        "involvedObject": {"kind": "Job", "namespace": namespace, "name": f"j{number}", "uid": f"{namespace}-{number}"},
        "reason": "FailedCreate",
        "message": "no",
    }


def size_of(seen: WarningsSeen) -> int:
    """The bytes that the Events take."""
    memories = (seen._known, seen._unknown)
    return len(pickle.dumps([list(events.values()) for memory in memories for events in memory._events.values()]))


@pytest.mark.parametrize("of", ["message", "uid", "name"])
def test_large_events_about_pods_that_do_not_exist_take_little_memory(of: str) -> None:
    store = Store()
    for number in range(1_000):
        event = warning(f"hostile-{number % 2}", number)
        event["involvedObject"] |= {"kind": "Pod", "uid": f"{number}"}
        event |= {"reason": "FailedMount"}
        large = f"{number} " + "x" * 100_000
        event |= {"message": large} if of == "message" else {}
        event["involvedObject"] |= {} if of == "message" else {of: large}
        store.event_seen(event)
    assert 0 < size_of(store._warnings) < 2 * UNKNOWN.in_namespace


def test_an_event_that_comes_before_its_job_is_found_beside_many_of_other_namespaces(job: dict[str, Any]) -> None:
    store = Store()
    ours = warning(NAMESPACE, 0)
    ours["involvedObject"] |= {"name": f"{NAME}-1", "uid": job["metadata"]["uid"]}
    store.event_seen(ours)
    for number in range(10_000):
        store.event_seen(warning(f"noisy-{number % 20}", number))
    store.job_seen(job)
    assert [item.message for item in store.events_of(store.jobs.of(KEY))] == ["no"]


def test_the_events_of_all_namespaces_are_bounded_and_the_fullest_namespace_loses_its_oldest() -> None:
    events = [read_event(warning(*about)) for about in (("a", 1), ("b", 1), ("b", 2), ("b", 3), ("b", 1, 6), ("c", 1))]
    one = next(size for event in events if event is not None if (size := _size_of(event)))
    seen = WarningsSeen(known=Bytes(3 * one, 4 * one))
    for event in events:
        assert event is not None
        assert seen.put(event, known=True)
    kept = [event for event in events if event is not None and seen.about(replace(event.meta, uid=event.about))]
    assert [event.about for event in kept] == ["a-1", "b-1", "b-3", "b-1", "c-1"], "b-2 was the oldest of b"
    assert len(seen) == 4


def test_a_pods_events_go_with_it() -> None:
    store = Store()
    pod = {"metadata": {"name": "p", "namespace": NAMESPACE, "uid": "pod-uid", "resourceVersion": "7",
                        "labels": {"jobs.spoke.dev/spokejob": NAME}}}  # fmt: skip
    event = {
        "metadata": {"name": "e", "namespace": NAMESPACE, "resourceVersion": "8"},
        "involvedObject": {"kind": "Pod", "namespace": NAMESPACE, "name": "p", "uid": "pod-uid"},
        "reason": "FailedMount",
        "message": "no Secret",
    }
    store.pod_seen(pod)
    assert store.event_seen(event) == {KEY}
    assert [item.message for item in store.events_of(store.pods.of(KEY))] == ["no Secret"]
    later = at(event, 9) | {"reason": "FailedToRetrieveImagePullSecret", "message": "no pull Secret"}
    assert store.event_seen(later) == {KEY}
    both = [item.message for item in store.events_of(store.pods.of(KEY))]
    assert both == ["no Secret", "no pull Secret"], "one does not push out the other"
    store.pod_seen(at(pod, 10), gone=True)
    assert len(store._warnings) == 0


def test_probes_wake_nobody_except_the_startup_probe_of_a_sidecar_of_a_job() -> None:
    """The API server sends the warnings about the probes of all pods: a selector can't tell them apart."""
    store = Store()
    store.pod_seen({"metadata": {"name": "p", "namespace": NAMESPACE, "uid": "pod-uid", "resourceVersion": "7",
                                 "labels": {"jobs.spoke.dev/spokejob": NAME}}})  # fmt: skip

    def fails(probe: str, container: str, pod: str = "p") -> set[Key]:
        about = {"kind": "Pod", "namespace": NAMESPACE, "name": pod, "uid": f"{pod}od-uid", "fieldPath": container}
        event = {"metadata": {"name": "e", "namespace": NAMESPACE, "resourceVersion": "8"}, "involvedObject": about}
        return store.event_seen(event | {"reason": "Unhealthy", "message": f"{probe} probe failed: EOF"})

    for probe, container in (
        ("Readiness", "spec.initContainers{proxy}"),
        ("Liveness", "spec.initContainers{proxy}"),
        ("Startup", "spec.containers{job}"),
        ("Readiness", "spec.containers{job}"),
    ):
        assert fails(probe, container) == set()
    assert len(store._warnings) == 0, "none takes the memory of one that counts"
    assert fails("Startup", "spec.initContainers{proxy}", pod="x") == set(), "somebody else's pod"
    assert fails("Startup", "spec.initContainers{proxy}") == {KEY}


def test_how_a_pod_ended_is_known_until_the_next_comparison_even_if_it_goes_at_once() -> None:
    store = Store()
    pod = {"metadata": {"name": "p", "namespace": NAMESPACE, "uid": "pod-uid", "resourceVersion": "7",
                        "labels": {"jobs.spoke.dev/spokejob": NAME}}, "status": {"phase": "Running"}}  # fmt: skip
    store.pod_seen(pod)
    assert store.pod_seen(at(pod, 9) | {"status": {"phase": "Failed", "reason": "Evicted"}}, gone=True) == {KEY}
    assert [item.reason for item in store.pods.of(KEY)] == ["Evicted"]
    listed = Listed(NAMESPACE, frozenset(), 10)
    store.pods.remove_all(store.pods.absent(listed), listed.version)
    assert store.pods.of(KEY) == ()
    store.pod_seen(at(pod, 11))
    assert store.pod_seen(at(pod, 12), gone=True) == {KEY}
    assert store.pods.of(KEY) == (), "what says nothing is gone at once"


def test_an_unknown_kind_is_nothing() -> None:
    assert Store().see("services", {}, gone=False) == set()


def test_a_final_spokejob_is_the_same_after_it_was_kept_packed() -> None:
    world = World(retry={"budget": {"error": 2}}, organization=7, resources={"limits": {"memory": "1Gi"}})
    body = deepcopy(world.spokejob)
    at_the_end = "2026-03-01T12:00:00.123000Z"
    body["status"] = {
        "outcome": "Failed",
        "cause": "JobError",
        "attempt": 2,
        "charged": {"error": 2},
        "finishedAt": at_the_end,
        "attempts": [{"number": 2, "job": "j-2", "exitCode": 10, "cause": "JobError", "finishedAt": at_the_end}],
        "conditions": [
            {
                "type": "Finished",
                "status": "True",
                "reason": "JobError",
                "message": "é",
                "lastTransitionTime": at_the_end,
            }
        ],
        "progress": {"percent": 7},
        "ledger": "Failed",
    }
    store = Store()
    assert store.spokejob_seen(body) == {KEY}
    assert store.spokejob(KEY) == SpokeJob.from_object(body)
    assert store.spokejob_seen(body) == set(), "it is known"
    assert list(store.unfinished()) == []
    assert store.spokejob_seen(body, gone=True) == {KEY}
    assert store.spokejob(KEY) is None
