"""SpokeJobs that people write by hand: refused by the API server, or taken for what they say; never a crash."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes.client import ApiException
from tests.integration.operator.conftest import (
    GROUP,
    PLURAL,
    VERSION,
    Cluster,
    Object,
    OperatorProcess,
)
from tests.waiting import eventually

from spoke_jobs.contract.custom_resources.crd import crd
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.names import LABEL_TEMPLATE
from spoke_jobs_operator.core.objects.api_objects import Unreadable
from spoke_jobs_operator.core.objects.limit_objects import read_spokelimit
from spoke_jobs_operator.core.objects.read_objects import read_spokejob, read_template
from spoke_jobs_operator.core.reconciling.reconcile import reconcile_unreadable
from spoke_jobs_operator.core.templates.build_job import build_job

SPEC: Object = crd(Kind.SPOKEJOB)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
LIMIT_SPEC: Object = crd(Kind.SPOKELIMIT)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
TEMPLATE = read_template(
    {
        "metadata": {"labels": {LABEL_TEMPLATE: "true"}},
        "template": {"spec": {"containers": [{"name": "job", "image": "app:1"}]}},
    }
)


def wrong(node: Object) -> st.SearchStrategy[Any]:
    """What a field of that schema may not hold, and some of what it may."""
    kind = node["type"]
    others: list[st.SearchStrategy[Any]] = [
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20), st.lists(st.integers(), max_size=2),
        st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    ]  # fmt: skip
    if kind in ("integer", "number"):
        edges = [node[name] + by for name in ("minimum", "maximum") if name in node for by in (-1, 0, 1)]
        others += [st.sampled_from(edges)] if edges else []
    if kind == "string":
        longest = node.get("maxLength", 50)
        others += [st.sampled_from(["", "a" * longest, "a" * (longest + 1), "a/b c\n☃️", "-", "..", "A" * 10])]
    if "properties" in node:
        name = st.sampled_from(sorted(node["properties"]))
        others += [name.flatmap(lambda name: wrong(node["properties"][name]).map(lambda value: {name: value}))]
    return st.one_of(others)


def edges(node: Object) -> list[Any]:
    """The outermost that a field of that schema may hold."""
    match node["type"]:
        case "integer" | "number":
            return [node[name] for name in ("minimum", "maximum") if name in node]
        case "boolean":
            return [True]
        case "string" if "maxLength" in node and "pattern" not in node:
            return ["a" * node["maxLength"], "spaces / slashes ☃️\n"]
        case "object" if "properties" in node:
            most = {name: found[-1] for name, child in node["properties"].items() if (found := edges(child))}
            return [most] if most else []
        case _:
            return []


EDGES = [
    *({name: value} | ({"queue": "q"} if name == "locksQueue" else {})
      for name, node in SPEC["properties"].items() for value in edges(node)),
    {"requestId": 2**63 - 1},
    {"organization": 2**63 - 1},
]  # fmt: skip
HELD = [
    {"podTemplate": "a" * 253},
    {"resources": {"requests": {"memory": "1Ei"}}},
    {"resources": {"limits": {"no name / of a resource": "1"}}},
    {"queue": "spaces / slashes ☃️\n", "jobType": "☃️" * 60},
]


def spokejob(spec: Object) -> Object:
    right: Object = {"uid": str(uuid.uuid4()), "requestId": 1, "jobType": "standin"}
    name = f"by-hand-{uuid.uuid4().hex[:8]}"
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "SpokeJob",
        "metadata": {"name": name},
        "spec": right | spec,
    }


@pytest.mark.parametrize("field", sorted(SPEC["properties"]))
def test_any_field_is_refused_or_ends_as_invalid_or_makes_a_job(cluster: Cluster, field: str) -> None:
    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(wrong(SPEC["properties"][field]))
    def hold(value: Any) -> None:
        is_refused_or_ends_as_invalid_or_makes_a_job(cluster, field, value)

    hold()


def is_refused_or_ends_as_invalid_or_makes_a_job(cluster: Cluster, field: str, value: Any) -> None:
    taken = created_dry(cluster, spokejob({field: value}))
    if isinstance(taken, ApiException):
        assert taken.status in (400, 422), taken
        assert field in str(taken.body), "it says which field"
        return
    item = read_spokejob(taken | {"metadata": taken["metadata"] | {"resourceVersion": "1"}})
    if isinstance(item, Unreadable):  # the API server lets something pass that the model does not
        assert field in item.problem
        (apply,) = reconcile_unreadable(item, datetime.now(UTC))
        assert apply.status.cause == "InvalidSpec"
        return
    refused = refusal_of_its_job(cluster, item)
    assert refused is None or refused.status in (400, 422), refused


def refusal_of_its_job(cluster: Cluster, item: SpokeJob) -> ApiException | None:
    """Why the API server would not take the Job of its first attempt."""
    try:
        cluster.batch.create_namespaced_job(cluster.namespace, build_job(item, TEMPLATE, 1), dry_run="All")
    except ApiException as error:
        return error
    return None


@pytest.mark.long
@pytest.mark.parametrize("field", sorted(LIMIT_SPEC["properties"]))
def test_any_field_of_a_spokelimit_is_refused_by_name_or_read(cluster: Cluster, field: str) -> None:
    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(wrong(LIMIT_SPEC["properties"][field]))
    def hold(value: Any) -> None:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": Kind.SPOKELIMIT.kind,
            "metadata": {"name": "by-hand"},
            "spec": {"scope": "all"} | {field: value},
        }
        taken = created_dry(cluster, body, Kind.SPOKELIMIT.plural)
        if isinstance(taken, ApiException):
            assert taken.status in (400, 422), taken
            assert field in str(taken.body), "it says which field"
            return
        item = read_spokelimit(taken)
        assert item.spec is not None or field in item.problem, "what cannot be read is not enforced, and says so"

    hold()


@pytest.mark.parametrize("field", SPEC["required"])
def test_a_field_that_is_needed_and_left_out_is_named(cluster: Cluster, field: str) -> None:
    body = spokejob({})
    del body["spec"][field]
    refused = created_dry(cluster, body)
    assert isinstance(refused, ApiException)
    assert (refused.status, f"spec.{field}: Required value" in str(refused.body)) == (422, True)


@pytest.mark.parametrize("uid", [["a list"], "0a1b2c3d0000-40008000-000000000000", "urn:uuid:1", ""])
def test_what_only_the_api_server_takes_for_a_uuid_is_refused(cluster: Cluster, uid: object) -> None:
    refused = created_dry(cluster, spokejob({"uid": uid}))
    assert isinstance(refused, ApiException)
    assert (refused.status, "spec.uid" in str(refused.body)) == (422, True)


def test_a_lock_needs_a_queue(cluster: Cluster) -> None:
    refused = created_dry(cluster, spokejob({"locksQueue": True}))
    assert isinstance(refused, ApiException)
    assert (refused.status, "locksQueue needs a queue" in str(refused.body)) == (422, True)
    assert isinstance(created_dry(cluster, spokejob({"locksQueue": True, "queue": "q"})), dict)


def test_the_outermost_that_is_taken_makes_a_job(cluster: Cluster) -> None:
    for spec in EDGES:
        taken = created_dry(cluster, spokejob(spec))
        assert isinstance(taken, dict), (spec, taken)
        item = read_spokejob(taken | {"metadata": taken["metadata"] | {"resourceVersion": "1"}})
        assert isinstance(item, SpokeJob), (spec, item)
        assert refusal_of_its_job(cluster, item) is None, spec


def test_what_is_taken_is_named_or_runs_and_nothing_goes_in_circles(apart: Cluster, own: OperatorProcess) -> None:
    apart.template("succeeds", "0")
    own.start(SPOKE_OPERATOR_COMPARE_SECONDS="2", SPOKE_OPERATOR_JOB_RETENTION_SECONDS="0")
    names = [apart.submit("succeeds", **spec) for spec in HELD]
    for name in names:
        apart.until(name, lambda status: status.get("cause") or status.get("outcome") == "Succeeded")
    eventually(lambda: writes_nothing_for_two_comparisons(apart, own), "nothing is written any more")
    assert own.running
    assert [line for line in own.logged() if line["level"] in ("error", "plain")] == []


def writes_nothing_for_two_comparisons(cluster: Cluster, operator: OperatorProcess) -> bool:
    """Each comparison has all looked at that aren't final."""
    final = ("Succeeded", "Failed")
    unfinished = sum(item.get("status", {}).get("outcome") not in final for item in cluster.spokejobs())
    assert unfinished, "or nothing would be looked at"
    writes, looks = "spoke_operator_writes_total", "spoke_operator_reconciles_total"
    written, looked_at = operator.metric(writes), operator.metric(looks)
    eventually(lambda: operator.metric(looks) >= looked_at + 2 * unfinished, "two comparisons")
    return operator.metric(writes) == written


def created_dry(cluster: Cluster, body: Object, plural: str = PLURAL) -> Object | ApiException:
    """The object as it would be stored, or why it wouldn't."""
    try:
        taken: Object = cluster.custom.create_namespaced_custom_object(
            GROUP, VERSION, cluster.namespace, plural, body, dry_run="All"
        )
    except ApiException as error:
        return error
    return taken


def test_a_cancellation_cannot_be_taken_back_nor_anything_else_changed(cluster: Cluster) -> None:
    name = cluster.submit("not-there", suspend=True)

    def patch(spec: Object) -> None:
        cluster.custom.patch_namespaced_custom_object(GROUP, VERSION, cluster.namespace, PLURAL, name, {"spec": spec})

    patch({"suspend": False})
    patch({"cancel": True})
    for spec, words in (
        ({"cancel": False}, "`cancel` can't be unset"),
        ({"queue": "other"}, "immutable except for suspend, cancel and priority"),
        ({"priority": 1001}, "less than or equal to 1000"),
        ({"traceparent": "x"}, "immutable except for suspend, cancel and priority"),
    ):
        with pytest.raises(ApiException) as caught:
            patch(spec)
        assert words in str(caught.value.body)
