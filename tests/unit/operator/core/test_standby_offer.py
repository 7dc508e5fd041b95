"""Which jobs may use a standby pod, which PodTemplates have some, and what such a pod is made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.core.standby_objects import DIGEST, member
from tests.unit.operator.core.test_build_job import spokejob, template

from spoke_jobs.contract import standby
from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, SpokeJob
from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs_operator.core.objects.api_objects import PodTemplate
from spoke_jobs_operator.core.objects.read_objects import read_job
from spoke_jobs_operator.core.objects.template_annotations import (
    NO_STANDBY,
    StandbyBounds,
    UnreadableBounds,
    read_bounds,
)
from spoke_jobs_operator.core.standby.standby_job import (
    bounds_of,
    build_standby_job,
    digest_of,
    problem_of,
    standby_name,
)
from spoke_jobs_operator.core.standby.standby_offer import Miss, offer
from spoke_jobs_operator.core.templates.build_job import attempt_variables, build_job

WANTS = {"jobs.spoke.dev/standby": "1-5"}
wanting = partial(template, annotations=WANTS)
JOBS = {"name": "job", "image": "app:1"}


def with_status(item: SpokeJob, **fields: Any) -> SpokeJob:
    return item.model_copy(update={"status": item.status.model_copy(update=fields)})


def test_a_job_gets_the_pod_that_waits_longest() -> None:
    members = [member("young", age=timedelta(seconds=5)), member("old", age=timedelta(seconds=50))]
    found = offer(spokejob(lane="standby"), template(annotations=WANTS), members, DIGEST)
    assert found == members[1].job


@pytest.mark.parametrize("lane", ["", "pod", "worker", "of a later release"])
def test_a_job_of_another_lane_gets_none(lane: str) -> None:
    assert offer(spokejob(lane=lane), template(annotations=WANTS), [member()], DIGEST) is None


@pytest.mark.parametrize(
    ("item", "of", "found", "miss"),
    [
        (spokejob(lane="standby"), template(), member(), Miss.NO_POOL),
        (
            spokejob(lane="standby", resources={"requests": {"cpu": "2"}}),
            template(annotations=WANTS),
            member(),
            Miss.RESOURCES,
        ),
        (
            spokejob(lane="standby").model_copy(update={"labels": {"team": "a"}}),
            template(annotations=WANTS | {"jobs.spoke.dev/copied-labels": "team"}),
            member(),
            Miss.LABELS,
        ),
        (with_status(spokejob(lane="standby"), charged={"oom": 1}), template(annotations=WANTS), member(), Miss.MEMORY),
        (
            with_status(
                spokejob(lane="standby"), attempts=(AttemptStatus(number=1, job="x", cause="StandbyLost"),), attempt=1
            ),
            template(annotations=WANTS),
            member(),
            Miss.LOST,
        ),
        (spokejob(lane="standby"), template(annotations=WANTS), member(ready=False), Miss.NONE_FREE),
        (spokejob(lane="standby"), template(annotations=WANTS), member(reserved=True), Miss.NONE_FREE),
        (spokejob(lane="standby"), template(annotations=WANTS), replace(member(), ours=False), Miss.NONE_FREE),
        (spokejob(lane="standby"), template(annotations=WANTS), member(digest="earlier"), Miss.NONE_FREE),
    ],
)
def test_why_a_job_gets_a_pod_of_its_own(item: SpokeJob, of: PodTemplate, found: Any, miss: Miss) -> None:
    assert offer(item, of, [found], DIGEST) is miss


@given(st.text(max_size=20) | st.tuples(st.integers(0, 9999), st.integers(0, 9999)).map("{0[0]}-{0[1]}".format))
def test_bounds_are_read_or_refused_by_name(value: str) -> None:
    try:
        bounds = read_bounds(value)
    except UnreadableBounds:
        pass
    else:
        assert bounds.minimum <= bounds.maximum
        assert f"{bounds.minimum}-{bounds.maximum}" == "-".join(str(int(part)) for part in value.split("-"))


@pytest.mark.parametrize(
    ("value", "says"),
    [("5-2", "MIN must not be over MAX"), ("2", "write MIN-MAX"), ("1-501", "at most 500"), ("-1-2", "write MIN-MAX")],
)
def test_bounds_that_make_no_sense_are_named_and_stop_no_job(value: str, says: str) -> None:
    of = template(annotations={"jobs.spoke.dev/standby": value})
    assert says in problem_of(of)
    assert of.rules.problem == "", "its jobs run in pods of their own"
    assert bounds_of(of) == NO_STANDBY


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (wanting({"containers": [JOBS], "volumes": [{"name": "data", "persistentVolumeClaim": {}}]}), "'data' is a"),
        (wanting({"containers": [JOBS], "hostNetwork": True}), "node's network"),
        (wanting({"containers": [JOBS | {"ports": [{"containerPort": 1, "hostPort": 1}]}]}), "port of their node"),
        (wanting({"containers": [{"name": "other"}]}), "no container named job"),
        (wanting(labels={"kueue.x-k8s.io/queue-name": "q"}), "Kueue"),
        (wanting(metadata={"labels": {"kueue.x-k8s.io/queue-name": "q"}}), "Kueue"),
    ],
)
def test_a_template_that_can_have_no_standby_pods_says_why(of: PodTemplate, says: str) -> None:
    assert says in problem_of(of)
    assert bounds_of(of) == NO_STANDBY


def test_volumes_that_all_pods_share_are_no_obstacle() -> None:
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "config", "configMap": {"name": "x"}}]
    of = template({"containers": [JOBS], "volumes": volumes}, annotations=WANTS)
    assert (problem_of(of), bounds_of(of)) == ("", StandbyBounds(1, 5))


def test_a_standby_pod_is_that_of_a_job_but_for_what_names_the_job() -> None:
    of = template(metadata={"labels": {"team": "a"}}, annotations=WANTS)
    made, of_job = build_standby_job(of, "default-standby-1", "v", 3600), build_job(spokejob(), of, 1)
    pod, pod_of_job = made["spec"]["template"], of_job["spec"]["template"]
    (container,), (container_of_job,) = pod["spec"].pop("containers"), pod_of_job["spec"].pop("containers")
    names = {item["name"] for item in container.pop("env")}
    names_of_job = {item["name"] for item in container_of_job.pop("env")}
    assert container == container_of_job
    assert pod["spec"] == pod_of_job["spec"]
    assert names == {"SPOKE_STANDBY", "SPOKE_STANDBY_SECONDS", "SPOKE_POD", "SPOKE_NODE"}
    assert not names_of_job & {"SPOKE_STANDBY", "SPOKE_STANDBY_SECONDS"}
    labels = pod["metadata"]["labels"]
    assert (labels["jobs.spoke.dev/spokejob"], labels["jobs.spoke.dev/standby"], labels["team"]) == ("", "true", "a")
    assert pod["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("PodTemplate", "t", False)
    seen = read_job(made)
    assert seen.standby is not None
    assert (seen.standby.template, seen.standby.verifier) == ("default", "v")
    assert seen.standby.digest == digest_of(of, 3600)
    assert seen.template == of_job["metadata"]["annotations"]["jobs.spoke.dev/made-from"]


def test_whatever_the_pod_is_made_from_changes_its_digest() -> None:
    known = digest_of(template(annotations=WANTS), 3600)
    assert known == digest_of(template(annotations={"jobs.spoke.dev/standby": "2-9"}), 3600), "the number does not"
    others = [
        digest_of(template({"containers": [JOBS | {"image": "app:2"}]}), 3600),
        digest_of(template(labels={"team": "a"}), 3600),
        digest_of(template(metadata={"annotations": {"x": "y"}}), 3600),
        digest_of(template(), 60),
    ]
    assert len({known, *others}) == 5


@given(st.text(max_size=80))
def test_names_fit_a_label(text: str) -> None:
    of = replace(template(), meta=replace(template().meta, key=template().meta.key._replace(name=text)))
    assert len(standby_name(of, "0123456789abcdef")) <= 63


def test_the_request_of_an_assignment_has_what_a_pods_environment_has() -> None:
    item = spokejob(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", timeoutSeconds=60)
    variables = attempt_variables(item, 3, 30)
    read = standby.read_assignment(standby.assignment_body(variables))
    assert read == variables
    assert PodAssignment.from_environment(read).timeout_seconds == 30
