"""SpokeJobs that people write by hand: refused by the API server, or taken for what they say; never a crash."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes.client import ApiException
from tests.integration.operator.conftest import GROUP, PLURAL, VERSION, Cluster, Object, OperatorProcess

from spoke_jobs.contract.crd import crd
from spoke_jobs_operator.core.build_job import build_job
from spoke_jobs_operator.core.model import Unreadable, read_spokejob, read_template
from spoke_jobs_operator.core.unreadable import reconcile_unreadable

SPEC: Object = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
TEMPLATE = read_template({"template": {"spec": {"containers": [{"name": "job", "image": "app:1"}]}}})


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


FIELDS = st.sampled_from(sorted(SPEC["properties"]))


def spokejob(spec: Object) -> Object:
    right: Object = {"uid": str(uuid.uuid4()), "requestId": 1, "jobType": "standin"}
    name = f"by-hand-{uuid.uuid4().hex[:8]}"
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "SpokeJob",
        "metadata": {"name": name},
        "spec": right | spec,
    }


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(FIELDS.flatmap(lambda name: wrong(SPEC["properties"][name]).map(lambda value: {name: value})))
def test_any_field_is_refused_or_ends_as_invalid_or_makes_a_job(cluster: Cluster, spec: Object) -> None:
    (field,) = spec
    taken = created_dry(cluster, spec)
    if isinstance(taken, ApiException):
        assert taken.status in (400, 422), taken
        assert field in str(taken.body), "it says which field"
        return
    item = read_spokejob(taken | {"metadata": taken["metadata"] | {"resourceVersion": "1"}})
    if isinstance(item, Unreadable):  # an array where a uuid is expected, say: the API server lets it pass
        assert field in item.problem
        (apply,) = reconcile_unreadable(item, datetime.now(UTC))
        assert apply.status.cause == "InvalidSpec"
        return
    json.dumps(build_job(item, TEMPLATE, 1))


def created_dry(cluster: Cluster, spec: Object) -> Object | ApiException:
    """The SpokeJob as it would be stored, or why it wouldn't."""
    try:
        taken: Object = cluster.custom.create_namespaced_custom_object(
            GROUP, VERSION, cluster.namespace, PLURAL, spokejob(spec), dry_run="All"
        )
    except ApiException as error:
        return error
    return taken


@pytest.mark.parametrize("text", ["with spaces and / slashes", "☃️" * 60, "ünïcödé.und.punkte", "UPPER", "0", "a" * 200])
def test_any_job_type_and_queue_runs(cluster: Cluster, operator: OperatorProcess, text: str) -> None:
    names = {item.metadata.name for item in cluster.core.list_namespaced_pod_template(cluster.namespace).items}
    if "succeeds-any" not in names:
        cluster.template("succeeds-any", "0")
    name = cluster.submit("succeeds-any", jobType=text, queue=text, locksQueue=True)
    assert cluster.until_final(name)["outcome"] == "Succeeded"


def test_a_cancellation_cannot_be_taken_back_nor_anything_else_changed(cluster: Cluster) -> None:
    name = cluster.submit("not-there", suspend=True)

    def patch(spec: Object) -> None:
        cluster.custom.patch_namespaced_custom_object(GROUP, VERSION, cluster.namespace, PLURAL, name, {"spec": spec})

    patch({"suspend": False})
    patch({"cancel": True})
    for spec, words in (
        ({"cancel": False}, "a cancellation can't be taken back"),
        ({"queue": "other"}, "immutable but for suspend and cancel"),
        ({"priority": 7}, "immutable but for suspend and cancel"),
        ({"traceparent": "x"}, "immutable but for suspend and cancel"),
    ):
        with pytest.raises(ApiException) as caught:
            patch(spec)
        assert words in str(caught.value.body)
