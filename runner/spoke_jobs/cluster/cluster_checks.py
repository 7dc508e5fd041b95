"""Check a cluster for `spoke-jobs check`: reads, reviews of the account's rights, dry runs of creations."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from spoke_jobs.cluster.check_results import ApiRefusal, CheckResults, OperatorLease, TemplateCheck
from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.cluster_view import PublishedTurns, read_published
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.cluster.rights import CREATE, LIST_LIMITS, Right
from spoke_jobs.contract import names
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.executors import CLUSTER_RUNNER
from spoke_jobs.limits.published_limits import PublishedView, labels_of, read_published_limit
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.registry import Definition
from spoke_jobs.shared.api_errors import ApiError, ApiUnavailable, NotFound, Unauthorized
from spoke_jobs.shared.object_fields import Body, items, mapping, moment, number, text

_TIMEOUTS = Timeouts(connect=3.0, read=10.0)
_LEASE_SECONDS = 15
_LONGEST_LEASE_SECONDS = 86_400
_DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict"}


def check(
    namespace: str,
    rights: Iterable[Right],
    definitions: Mapping[str, Definition],
    lease: tuple[str, ...] | None,
    ledger: str = "",
) -> CheckResults:
    """Check the cluster that the environment names.

    :param rights: the rights that the account should have.
    :param definitions: the application's jobs; their SpokeJobs are created as dry runs, their PodTemplates are read.
    :param lease: namespace and name of the operator's Lease.
    :param ledger: the identity of the ledger whose SpokeLimits are listed; without it, none are.
    :raises ConfigurationError: if there are no credentials.
    """
    with closing(SpokeJobClient.connect(namespace, _TIMEOUTS)) as api:
        try:
            return _Check(api).run(tuple(rights), definitions, lease, ledger)
        except ApiError as error:
            return CheckResults(api.server, namespace, away=_refusal(error))


class _Check:
    def __init__(self, api: SpokeJobClient) -> None:
        self._api = api
        self._core = f"/api/v1/namespaces/{api.namespace}"

    def run(
        self,
        rights: tuple[Right, ...],
        definitions: Mapping[str, Definition],
        lease: tuple[str, ...] | None,
        ledger: str,
    ) -> CheckResults:
        """Run all checks.

        :raises ApiError: if every other call would fail in the same way.
        """
        user = self._user()
        served = self._served()
        kinds = self._kinds() if names.VERSION in served else frozenset()
        found = {right: self._may(right) for right in rights}
        may_list = found.get(LIST_LIMITS) is True
        tries = definitions if Kind.SPOKEJOB.plural in kinds and found.get(CREATE) is True else {}
        users: dict[str, list[str]] = {}
        for name, definition in sorted(definitions.items()):
            users.setdefault(definition.options.pod_template, []).append(name)
        return CheckResults(
            self._api.server,
            self._api.namespace,
            user=user,
            served=served,
            kinds=kinds,
            rights=found,
            dry_runs={name: self._try(definition) for name, definition in tries.items()},
            templates={template: self._template(template, types) for template, types in sorted(users.items())},
            published=self._published(),
            ledger=ledger,
            limits=self._limits(ledger) if ledger and may_list and Kind.SPOKELIMIT.plural in kinds else None,
            lease=self._lease(*lease) if lease else None,
        )

    def _user(self) -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = self._api.ask("/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
        except ApiError as error:
            if isinstance(error, ApiUnavailable | Unauthorized):
                raise
            return ""  # not every account has this right, and no other check needs the name
        return read_user(answer)

    def _served(self) -> tuple[str, ...]:
        try:
            group = self._api.ask(f"/apis/{names.GROUP}")
        except NotFound:
            return ()
        return read_names(group, "versions", "version")

    def _kinds(self) -> frozenset[str]:
        return frozenset(read_names(self._api.ask(f"/apis/{names.API_VERSION}"), "resources", "name"))

    def _may(self, right: Right) -> bool | ApiRefusal:
        attributes = {
            "namespace": self._api.namespace,
            "verb": right.verb,
            "group": right.group,
            "resource": right.resource,
            "subresource": right.subresource,
            "name": right.name,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        try:
            answer = self._api.ask("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        except ApiError as error:
            return _refused(error)
        return read_decision(answer)

    def _try(self, definition: Definition) -> ApiRefusal | None:
        """Create a SpokeJob of the job type as a dry run, which checks authorization, schema and admission."""
        try:
            body = spokejob(_sample(definition), self._api.namespace)
        except ValueError as error:
            return ApiRefusal(422, " ".join(str(error).split()))
        try:
            self._api.ask(Kind.SPOKEJOB.path(self._api.namespace), _DRY_RUN, body)
        except ApiError as error:
            refusal = _refused(error)
            # The sample's name is random: show the job type instead.
            return replace(refusal, message=refusal.message.replace(body["metadata"]["name"], definition.name))
        return None

    def _template(self, name: str, types: Iterable[str]) -> TemplateCheck | ApiRefusal:
        try:
            found = self._api.ask(f"{self._core}/podtemplates/{name}")
        except ApiError as error:
            return _refused(error)
        return TemplateCheck.of(found, types)

    def _published(self) -> PublishedTurns | ApiRefusal | None:
        try:
            return read_published(self._api.config_map(names.STATE_CONFIGMAP))
        except ApiError as error:
            return _refused(error)

    def _limits(self, ledger: str) -> Mapping[str, PublishedView] | ApiRefusal:
        try:
            bodies = self._api.list_objects(Kind.SPOKELIMIT, labels_of(ledger))
            found = [read_published_limit(body, ledger) for body in bodies]
        except ApiError as error:
            return _refused(error)
        return {view.name: view for view in found if view is not None}

    def _lease(self, namespace: str, name: str) -> OperatorLease | ApiRefusal:
        try:
            return read_lease(self._api.ask(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"))
        except ApiError as error:
            return _refused(error)


def read_user(review: Body) -> str:
    """Return the account's name, from the answer to a SelfSubjectReview; empty if there is none."""
    return text(mapping(mapping(review, "status"), "userInfo"), "username")


def read_names(listing: Body, field: str, name: str) -> tuple[str, ...]:
    """Return the names in a list of the API server's discovery."""
    return tuple(found for item in items(listing, field) if (found := text(item, name)))


def read_decision(review: Body) -> bool | ApiRefusal:
    """Return whether the account has the right, from the answer to a SelfSubjectAccessReview."""
    allowed = mapping(review, "status").get("allowed")
    return allowed if isinstance(allowed, bool) else ApiRefusal(200, "the API server's answer says neither yes nor no")


def read_lease(found: Body) -> OperatorLease:
    """Read the operator's Lease."""
    spec = mapping(found, "spec")
    lasts = number(spec, "leaseDurationSeconds")
    seconds = lasts if 0 < lasts <= _LONGEST_LEASE_SECONDS else _LEASE_SECONDS
    return OperatorLease(text(spec, "holderIdentity"), moment(spec, "renewTime"), timedelta(seconds=seconds))


def _sample(definition: Definition) -> JobRequest:
    """Make the row that a dispatch without options would insert."""
    now = datetime.now(UTC)
    values: dict[str, Any] = dict.fromkeys(
        ("organization_id", "campaign_id", "run_after", "submitted_at", "started_at", "finished_at", "result")
    )
    return JobRequest(
        id=1,
        uid=uuid.uuid4(),
        job_type=definition.name.removesuffix("*") or definition.name,
        payload="null",
        queue_name=definition.queue_name,
        # Each dispatch may choose the queue. Without one there is nothing to lock, and the CRD refuses `locksQueue`.
        locks_queue=definition.locks_queue and bool(definition.queue_name),
        assigned=False,
        status=0,
        result_message="",
        created_at=now,
        updated_at=now,
        state=JobState.WAITING,
        runner=CLUSTER_RUNNER,
        run=1,
        attempt=0,
        options=definition.options,
        priority=definition.priority,
        cause="",
        **values,
    )


def _refused(error: ApiError) -> ApiRefusal:
    """Turn an error into a result.

    :raises ApiError: if every other call would fail in the same way.
    """
    if isinstance(error, ApiUnavailable | Unauthorized):
        raise error
    return _refusal(error)


def _refusal(error: ApiError) -> ApiRefusal:
    return ApiRefusal(error.status, str(error))
