"""The readers of what others wrote: each takes any bytes, and gives a value or a named refusal, never another error.

Property tests, and the fuzzer (`tests/fuzz`), run all of them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from spoke_jobs.cli.commands.limit_input import parse
from spoke_jobs.cli.commands.parsing import json_of
from spoke_jobs.cluster import cluster_checks
from spoke_jobs.cluster.check_results import TemplateCheck
from spoke_jobs.cluster.cluster_view import busy_nodes, read_published, times, unfinished_since, waits_of
from spoke_jobs.cluster.namespace_view import template_view
from spoke_jobs.cluster.pod_logs import job_has_ended, started
from spoke_jobs.contract.allowed_types import ANNOTATION_TYPES, allows_type
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.environment import BadEnvironment, PodAssignment
from spoke_jobs.contract.limit_scopes import Scope
from spoke_jobs.contract.operator_state import Publication
from spoke_jobs.contract.quota_message import read_quota_refusal
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.contract.standby import proves, read_assignment, read_state
from spoke_jobs.contract.termination import decode
from spoke_jobs.contract.trace_context import is_traceparent
from spoke_jobs.errors import ConfigurationError, InvalidLimit, InvalidPayload, InvalidSchedule
from spoke_jobs.execution import output_lines, usage_meter
from spoke_jobs.explain.shape import writable
from spoke_jobs.job_options import JobOptions
from spoke_jobs.ledger.columns import lenient
from spoke_jobs.ledger.limits_and_pauses.limit_rows import to_limit
from spoke_jobs.ledger.schedules.schedule_rows import to_schedule_row
from spoke_jobs.limits.limit_file import read_entries
from spoke_jobs.limits.published_limits import read_published_limit
from spoke_jobs.payloads import decode_payload
from spoke_jobs.shared import object_fields
from spoke_jobs.shared.api_errors import ApiError, error_of_answer
from spoke_jobs.shared.clean_text import error_type, is_cause_name, is_storable, storable
from spoke_jobs.shared.strict_json import NotJson, read_json, read_json_object
from spoke_jobs.shared.token_body import read_token_body
from spoke_jobs.sync.decide import failed_attempts
from spoke_jobs.sync.sync_model import read_view
from spoke_jobs.sync.worker_sets import read_worker_sets
from spoke_jobs.tasks.client.foreign_answers import first_line
from spoke_jobs.tasks.protocol.messages import JSON, NDJSON, BadAnswer, BadRequest, parse_acknowledgement, parse_batch
from spoke_jobs.tasks.server.auth import read_claims
from spoke_jobs.tasks.server.token_review import ReviewFailed, read_review
from spoke_jobs.web.claim_rules import ClaimRules
from spoke_jobs.web.id_tokens import IdTokenRefused, read_keys, verified_claims
from spoke_jobs.web.oidc_provider import ProviderFailed, read_metadata
from spoke_jobs.worker.child_messages import decode_report
from spoke_jobs_operator.core.diagnosis import scheduler_message
from spoke_jobs_operator.core.diagnosis.attempt_state import Bounds
from spoke_jobs_operator.core.diagnosis.diagnose import diagnose
from spoke_jobs_operator.core.diagnosis.refusals import read_refusal
from spoke_jobs_operator.core.objects.api_objects import Packed, Unreadable
from spoke_jobs_operator.core.objects.limit_objects import read_namespace, read_spokelimit
from spoke_jobs_operator.core.objects.read_objects import read_event, read_job, read_pod, read_spokejob, read_template
from spoke_jobs_operator.core.objects.template_annotations import (
    ANNOTATION_MAX,
    ANNOTATION_MIN,
    ANNOTATION_RESOURCES,
    UnreadableBounds,
    UnreadableCaps,
    read_bounds,
    read_caps,
)
from spoke_jobs_operator.core.process import election
from spoke_jobs_operator.core.templates.build_job import build_job
from spoke_jobs_operator.core.templates.template_checks import check_template
from spoke_jobs_operator.shell.api.bounded_answers import slim_event

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Reader = Callable[[bytes], object]


def of_text(read: Callable[[str], object]) -> Reader:
    """Read bytes as text; invalid bytes become lone surrogates, so that these occur."""
    return lambda data: read(data.decode("utf-8", "surrogateescape"))


def of_object(read: Callable[[Mapping[str, Any]], object]) -> Reader:
    """Read bytes as JSON, and the object in it."""

    def reader(data: bytes) -> object:
        body = read_json_object(data)
        return None if isinstance(body, NotJson) else read(body)

    return reader


def _termination(data: bytes) -> object:
    found = decode(data)
    assert found is None or (is_storable(found.cause + found.error_type) and len(found.cause) <= 40)
    return found


def _text(text: str) -> object:
    assert is_storable(storable(text))
    assert len(storable(text, 10)) <= 10
    assert is_storable(error_type(text))
    assert not is_cause_name(text) or is_storable(text)
    return object_fields.digits(text), is_traceparent(text), Scope.parse(text)


def _pod(body: Mapping[str, Any]) -> object:
    pod, job = read_pod(body), read_job(body)
    for live in (False, True):
        diagnose(job, [pod], [event] if (event := read_event(body)) else [], Bounds(600, 60), NOW, live=live)
        diagnose(None, [pod], (), Bounds(600, None), NOW, live=live)
    return started(dict(body))


def _spokejob(body: Mapping[str, Any]) -> object:
    found = read_spokejob(body)
    return found if isinstance(found, Unreadable) else Packed.of(found).unpack()


def _job_to_build(body: Mapping[str, Any]) -> object:
    """A SpokeJob's own fields go into a Job. The API server has checked the types of a PodTemplate's fields."""
    found = read_spokejob(body)
    if isinstance(found, Unreadable):
        return found
    assert isinstance(found, SpokeJob)
    checked = check_template(found, read_template(body))
    return build_job(found, read_template(_TEMPLATE), 1), checked


def _check_answers(body: Mapping[str, Any]) -> object:
    found = cluster_checks.read_user(body), cluster_checks.read_names(body, "status", "name")
    return *found, cluster_checks.read_decision(body), TemplateCheck.of(body, ["x"]), times(body)


def _argument(text: str) -> object:
    try:
        return json_of(text, "--payload")
    except ValueError as refusal:
        return refusal


def _limits_file(text: str) -> object:
    try:
        return read_entries(parse(text))
    except InvalidLimit as refusal:
        return refusal


def _limit_row(body: Mapping[str, Any]) -> object:
    """Of the row, other releases choose the texts and the JSON of `declared`."""
    row = dict.fromkeys(("paused_at", "paused_until", "full_at", "max_running"))
    row |= {"rate_count": 1, "rate_seconds": 1, "burst": 1, "paused_reason": "", "paused_by": "", "id": 1}
    texts = {name: str(body.get(name, "")) for name in ("scope", "source", "declared_by")}
    return to_limit(row | texts | {"declared": body.get("declared")})


def _schedule_row(body: Mapping[str, Any]) -> object:
    """Of the row, other releases choose the JSON of `definition` and `last_skip`."""
    names = ("name", "runner", "job_type", "digest", "next_due_at", "served_at", "paused_at", "paused_by")
    row: dict[str, Any] = dict.fromkeys((*names, "last_due_at", "last_job_id", "error", "created_at", "updated_at"))
    row |= {"name": "a", "origin": "code", "definition": body.get("definition"), "last_skip": body.get("last_skip")}
    found = to_schedule_row(row)
    try:
        return found, found.schedule()
    except InvalidSchedule as refusal:
        return refusal


def _output(data: bytes) -> object:
    shown = output_lines.tail(data), output_lines.log_lines(data, 7, as_json=False)
    lines = output_lines.log_lines(data, 7, as_json=True)
    assert all(json.loads(line)["request_id"] == 7 for line in lines.splitlines())
    return shown


def _kernel_file(data: bytes) -> object:
    value = usage_meter.number(data), usage_meter.value_of(data, b"usage_usec")
    return value, usage_meter.seconds_since_start(data, 9.0, 100), usage_meter.read_cgroup(lambda _path: data)


def _view(body: Mapping[str, Any]) -> object:
    return list(failed_attempts(read_view(dict(body))))


def _answer(data: bytes) -> ApiError:
    return error_of_answer(409, "Conflict", read_json(data), data, data[:5].decode("latin-1"))


def _watch_event(data: bytes) -> object:
    event = slim_event(data)
    return None if event is None else json.loads(event)  # as kopf reads it


def _acknowledgement(data: bytes) -> object:
    try:
        return parse_acknowledgement(data)
    except BadAnswer as refusal:
        return refusal


def _batch(content_type: str) -> Reader:
    def reader(data: bytes) -> object:
        try:
            return parse_batch(content_type, data)
        except BadRequest as refusal:
            return refusal

    return reader


def _review(data: bytes) -> object:
    try:
        return read_review(data)
    except ReviewFailed as refusal:
        return refusal


def _payload(text: str) -> object:
    try:
        return decode_payload("job", None, text)
    except InvalidPayload as refusal:
        return refusal


def _template_rules(text: str) -> object:
    keys = (ANNOTATION_TYPES, ANNOTATION_RESOURCES, ANNOTATION_MIN, ANNOTATION_MAX)
    annotations = dict.fromkeys(keys, text)
    try:
        return allows_type(annotations, text), read_caps(annotations)
    except UnreadableCaps as refusal:
        return refusal


def _assignment(data: bytes) -> object:
    variables = read_assignment(data)
    try:
        return None if variables is None else PodAssignment.from_environment(variables)
    except BadEnvironment as refusal:
        return refusal


def _standby_bounds(text: str) -> object:
    try:
        return read_bounds(text)
    except UnreadableBounds as refusal:
        return refusal


def _worker_sets(text: str) -> object:
    try:
        return read_worker_sets(text)
    except ConfigurationError as refusal:
        return refusal


def _openid_metadata(body: Mapping[str, Any]) -> object:
    try:
        return read_metadata(body, local=True)
    except ProviderFailed as refusal:
        return refusal


def _id_token(text: str) -> object:
    """A text as a token, as its header and as its claims."""
    keys, refusals = read_keys({"keys": [_JWK]}), []
    header = base64.urlsafe_b64encode(b'{"alg":"ES256"}').decode()
    for token in (text, f"{_token(text)[2:-2]}.e30.YQ", f"{header}.{_token(text)[2:-2]}.YQ"):
        try:
            verified_claims(token, keys, issuer="i", client_id="c", nonce="n", now=0)
        except IdTokenRefused as refusal:
            refusals.append(refusal)
    assert len(refusals) == 3
    return refusals


def _id_token_claims(body: Mapping[str, Any]) -> object:
    found = []
    for claim in ("email", "sub", "spec.uid", "metadata.labels"):
        rules = ClaimRules(groups=frozenset({"a"}), group_claim=claim, user_claim=claim if claim != "sub" else "")
        found.append((rules.name(body), rules.may_look(body), rules.may_act(body)))
    return found


def _token(claims: str) -> str:
    """Return a token with these claims."""
    return f"a.{base64.urlsafe_b64encode(claims.encode('utf-8', 'replace')).decode()}.b"


READERS: Mapping[str, Reader] = {
    "termination-message": _termination,
    "json": read_json,
    "text": of_text(_text),
    "pod": of_object(_pod),
    "spokejob": of_object(_spokejob),
    "spokelimit-of-sync": of_object(lambda body: read_published_limit(body, "1")),
    "spokejob-of-sync": of_object(_view),
    "template": of_object(read_template),
    "template-of-the-dashboard": of_object(template_view),
    "job-to-build": of_object(_job_to_build),
    "template-rules": of_text(_template_rules),
    "worker-sets": of_text(_worker_sets),
    "standby-assignment": _assignment,
    "standby-state": read_state,
    "standby-secret": of_text(lambda text: proves(text, text)),
    "standby-bounds": of_text(_standby_bounds),
    "spokelimit": of_object(lambda body: (read_spokelimit(body).scope, read_namespace(body))),
    "lease": of_object(election.read),
    "listing-page": of_object(object_fields.page_of),
    "lease-of-check": of_object(cluster_checks.read_lease),
    "answers-of-check": of_object(_check_answers),
    "command-line": of_text(_argument),
    "spokejob-of-why": of_object(
        lambda body: (list(waits_of([body])), list(unfinished_since([body])), list(busy_nodes([body])))
    ),
    "published-state": of_text(lambda text: read_published({"state": text, "time": text[:32]})),
    "operator-state": of_text(lambda text: Publication.read({"state": text, "time": "2026-01-01T00:00:00Z"})),
    "api-answer": _answer,
    "answer-of-a-proxy": first_line,
    "watch-event": _watch_event,
    "api-refusal": of_text(lambda text: (read_refusal(422, text, NOW), read_refusal(500, text, NOW))),
    "scheduler-message": of_text(lambda text: (scheduler_message.no_node(text), scheduler_message.shortage(text))),
    "quota-message": of_text(read_quota_refusal),
    "row-values": of_text(
        lambda text: (lenient.read_json(text), lenient.read_uid(text), lenient.read_sqlite_time(text))
    ),
    "shown-value": of_text(lambda text: to_json(writable({"text": text, "value": lenient.read_json(text)}))),
    "row-options": of_object(lambda body: (JobOptions.from_json(body), RetryPolicy.from_json(body))),
    "limit-row": of_object(_limit_row),
    "schedule-row": of_object(_schedule_row),
    "limits-file": of_text(_limits_file),
    "job-output": _output,
    "payload": of_text(_payload),
    "child-report": decode_report,
    "kernel-file": _kernel_file,
    "task-acknowledgement": _acknowledgement,
    "task-batch": _batch(JSON),
    "task-batch-of-lines": _batch(NDJSON),
    "token-review": _review,
    "openid-metadata": of_object(_openid_metadata),
    "openid-keys": of_object(read_keys),
    "id-token": of_text(_id_token),
    "id-token-claims": of_object(_id_token_claims),
    "pod-of-logs": of_object(job_has_ended),
    "token": of_text(lambda text: (read_claims(text), read_claims(_token(text)), read_token_body(_token(text)))),
}
"""By name. A reader that is missing here is not tested: add new ones."""

_OBJECT = {
    "metadata": {
        "name": "a",
        "namespace": "b",
        "uid": "u",
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 30,
        "labels": {
            "jobs.spoke.dev/attempt": "1",
            "jobs.spoke.dev/ledger": "1",
            "jobs.spoke.dev/template": "true",
        },
        "annotations": {"jobs.spoke.dev/timeout-seconds": "60"},
        "ownerReferences": [{"uid": "o", "controller": True}],
    },
    "spec": {
        "uid": "0a1b2c3d-0000-4000-8000-000000000000",
        "requestId": 7,
        "jobType": "x",
        "scope": "queue:a",
        "maxRunning": 1,
        "nodeName": "n",
        "containers": [{"name": "job", "image": "i"}],
        "holderIdentity": "h",
        "leaseDurationSeconds": 15,
    },
    "status": {
        "phase": "Failed",
        "outcome": "Failed",
        "cause": "JobError",
        "attempt": 1,
        "attempts": [{"number": 1, "job": "a-1", "cause": "JobError", "finishedAt": "2026-01-01T00:00:00Z"}],
        "conditions": [
            {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
        "containerStatuses": [
            {
                "name": "job",
                "state": {
                    "terminated": {
                        "exitCode": 10,
                        "reason": "Error",
                        "message": '{"v":1,"cause":"JobError"}',
                        "startedAt": "2026-01-01T00:00:00Z",
                        "finishedAt": "2026-01-01T00:00:09Z",
                    }
                },
            }
        ],
    },
}
"""A SpokeJob, pod, Job, PodTemplate and Lease at once."""
_TEMPLATE: Mapping[str, Any] = {
    "metadata": {"name": "a", "namespace": "b", "uid": "u", "labels": {"jobs.spoke.dev/template": "true"}},
    "template": {"spec": {"containers": [{"name": "job", "image": "i", "env": [{"name": "A", "value": "b"}]}]}},
}

_JWK: Mapping[str, str] = {
    "kty": "EC",
    "crv": "P-256",
    "kid": "k",
    "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
    "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
}
"""The base point of P-256: a public key whose private one is 1."""

EXAMPLES: tuple[bytes, ...] = (
    b'{"v":1,"cause":"JobError","errorType":"app.Refused","forGood":false,"retryAfterSeconds":5.5}',
    json.dumps(_OBJECT).encode(),
    b'{"kind":"Report","exit_code":10,"last":false,"token":"0a1b2c3d-0000-4000-8000-000000000000"}',
    b'{"id":"a","outcome":"done","retry_seconds":1.5}',
    b'{"tasks":[{"id":"a","name":"n","attempt":1,"payload":{"b":1},"waited":0.5}]}',
    b'{"id":"a","name":"n","attempt":1,"payload":"{}"}\n{"id":"b"}\n',
    b'{"status":{"authenticated":true,"user":{"username":"system:serviceaccount:a:b"},"audiences":["t"]}}',
    b'{"scope":"queue:a","source":"default","declared":{"maxRunning":1,"replaced":{"maxRunning":2,"app":"a"}}}',
    b'{"definition":{"jobType":"a","timing":{"minutes":5}},"last_skip":{"reason":"overlap","first":"2026-01-01T00:00:00Z"}}',
    b'[{"scope":"all","max_running":10,"rate":"5/s","paused":{"reason":"a","until":"2026-03-01T08:00Z"}}]',
    b"- {scope: all, max_running: 10, rate: 5/s, paused: {reason: a, until: 2026-03-01T08:00Z}}\n",
    b'{"SPOKE_REQUEST_ID":"7","SPOKE_REQUEST_UID":"0a1b2c3d-0000-4000-8000-000000000000","SPOKE_ATTEMPT":"1"}',
    b'{"state":"assigned"}',
    b"1-5",
    b'{"turns":["a"],"waiting":3,"exp":1767225600}',
    b'{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"k","use":"sig","alg":"RS256"}],"email":"a","email_verified":true}',
    b'{"authorization_endpoint":"https://a/b","token_endpoint":"https://a/c","jwks_uri":"https://a/d","scopes_supported":["a"]}',
    b'{"retry":{"budget":{"error":3}},"timeoutSeconds":60,"labels":{"a":"b"},"podTemplate":"default"}',
    b"0/2 nodes are available: 1 Insufficient memory. preemption: 0/2 nodes are available: 2 No victims found.",
    b'pods "x" is forbidden: exceeded quota: compute, requested: cpu=1,pods=1, used: cpu=4,pods=5, limited: cpu=4',
    b"<html>\r\n<head><title>413 Request Entity Too Large</title></head><!-- a > b --><script>1 < 2</script>",
    b"2026-01-01 00:00:00.000000",
    b"[" * 5000,
    b'{"a":' * 3000,
    b'{"v":1,"cause":"\\ud800"}',
    b'{"v":1,"cause":"a\\u0000b"}',
    b"9" * 5000,
    b"\xff\xfe\x00",
)
"""Valid texts of each kind, from which the fuzzer starts, and hostile ones."""
