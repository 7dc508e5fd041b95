"""Call the API server: plain JSON in and out, each call with a timeout.

The client library provides configuration, authentication and transport. Its models are not used: building a thousand
of them for one listing takes longer than everything else that the operator does.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import kopf
from kubernetes.aio import client as kubernetes
from kubernetes.aio import config as kubernetes_config

from spoke_jobs.contract import names
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import SpokeJobStatus
from spoke_jobs.contract.custom_resources.spokelimit import SpokeLimitStatus
from spoke_jobs.shared.api_errors import NoAnswer, NotFound, TooManyRequests, error_of_answer
from spoke_jobs.shared.object_fields import Page, items, page_of
from spoke_jobs.shared.page_limits import MOST_OBJECTS
from spoke_jobs.shared.strict_json import NotJson, read_json_object
from spoke_jobs_operator.core.objects.api_objects import Key

from .bounded_answers import session_options
from .call_rate import CallRate

_SYNC_FIELDS = {"progress", "ledger"}
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Listing:
    """A listing, which can be read once."""

    namespace: str | None
    pages: AsyncIterator[Page]


class NotLeading(Exception):
    """Nothing was written, because another process leads or may lead."""


class Client:
    """The client of the API server. Each process needs one, and closes it at the end.

    :param rate: limits all calls except those for the Lease.
    """

    def __init__(self, api: kubernetes.ApiClient, timeout_seconds: float, rate: CallRate | None = None) -> None:
        self._api = api
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._rate = rate or CallRate()
        self.may_write: Callable[[], bool] = lambda: True
        """Called right before each write that only the leader may make. If it returns False, the write is not sent."""
        self.on_throttled: Callable[[], None] = lambda: None
        """Called when the API server answers 429."""

    @classmethod
    async def connect(cls, timeout_seconds: float, rate: CallRate | None = None) -> Client:
        """Configure from KUBECONFIG or ``~/.kube/config`` if there is one, else from the pod's service account."""
        configuration = kubernetes.Configuration()
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await kubernetes_config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        configuration.client_session_kwargs = session_options()
        return cls(kubernetes.ApiClient(configuration), timeout_seconds, rate)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def access(self) -> kopf.ConnectionInfo:
        """Return the address and the current credentials, for kopf. Callable from any thread."""
        configuration = self._api.configuration
        scheme, _, token = (await configuration.get_api_key_with_prefix("BearerToken") or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            scheme=scheme or None,
            token=token or None,
        )

    async def is_served(self) -> bool:
        """Whether the API server knows the SpokeJob resource."""
        answer = await self._get(Kind.SPOKEJOB.root)
        return answer is not None and any(
            item.get("name") == Kind.SPOKEJOB.plural for item in items(answer, "resources")
        )

    async def read(self, kind: Kind, key: Key) -> dict[str, Any] | None:
        """Read an object; None if it doesn't exist."""
        return await self._get(kind.path(key.namespace, key.name), key.namespace)

    def listing(self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = "") -> Listing:
        """List the objects of one namespace or of all namespaces, in chunks.

        Reading the pages raises :class:`ApiError`, and :class:`Gone` if the snapshot expires in the meantime.
        """
        return Listing(namespace, self._pages(kind, namespace, labels, fields))

    async def _pages(self, kind: Kind, namespace: str | None, labels: str, fields: str) -> AsyncIterator[Page]:
        query = {"limit": str(MOST_OBJECTS)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            page = page_of(await self._call("GET", kind.path(namespace), namespace, query=query))
            yield page
            if not page.following:
                return
            query["continue"] = page.following

    async def create_job(self, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Job. :raises AlreadyExists: if the name is taken."""
        return await self._change(
            "POST", Kind.JOB.path(namespace), namespace, query={"fieldManager": names.MANAGER_OPERATOR}, body=body
        )

    async def patch_metadata(self, kind: Kind, key: Key, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Change fields of an object's metadata. Lists are replaced, mappings are merged.

        :param metadata: with the UID of the object, and its resourceVersion if it must be unchanged.
        :raises Conflict: if the object was replaced, or has changed.
        """
        return await self._change(
            "PATCH",
            kind.path(key.namespace, key.name),
            key.namespace,
            query={"fieldManager": names.MANAGER_OPERATOR},
            body={"metadata": dict(metadata)},
            content_type="application/merge-patch+json",
        )

    async def delete_job(
        self, key: Key, uid: str, resource_version: str, *, wait_for_pods: bool
    ) -> dict[str, Any] | None:
        """Delete the Job if it is unchanged since it was read.

        :returns: the Job with its deletion timestamp, or a Status if it was deleted at once; None if it did not exist.
        :raises Conflict: if the Job has changed or was replaced.
        """
        body = {
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
            "propagationPolicy": "Foreground" if wait_for_pods else "Background",
        }
        return await self._delete(Kind.JOB, key, body)

    async def delete_spokejob(self, key: Key, uid: str, resource_version: str) -> None:
        """Delete the SpokeJob. :raises Conflict: if it has changed since it was read."""
        body = {"preconditions": {"uid": uid, "resourceVersion": resource_version}, "propagationPolicy": "Background"}
        await self._delete(Kind.SPOKEJOB, key, body)

    async def apply_status(self, key: Key, uid: str, resource_version: str, status: SpokeJobStatus) -> dict[str, Any]:
        """Write all status fields that the operator owns; sync owns the others.

        :raises Conflict: if the SpokeJob has changed since it was read.
        """
        body = {
            "apiVersion": names.API_VERSION,
            "kind": Kind.SPOKEJOB.kind,
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "uid": uid,
                "resourceVersion": resource_version,
            },
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=_SYNC_FIELDS),
        }
        return await self._apply(Kind.SPOKEJOB, key, body, "/status")

    async def apply_limit_status(self, key: Key, uid: str, status: SpokeLimitStatus) -> dict[str, Any]:
        """Write a SpokeLimit's status. :raises Conflict: if the SpokeLimit was replaced."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": Kind.SPOKELIMIT.kind,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        return await self._apply(Kind.SPOKELIMIT, key, body, "/status")

    async def publish(self, key: Key, data: Mapping[str, str]) -> None:
        """Create or replace a ConfigMap."""
        metadata = {
            "name": key.name,
            "namespace": key.namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGER_OPERATOR},
        }
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}
        await self._apply(Kind.CONFIGMAP, key, body)

    async def read_lease(self, key: Key) -> dict[str, Any] | None:
        """Read the Lease; None if it doesn't exist."""
        try:
            return await self._send("GET", Kind.LEASE.path(key.namespace, key.name))
        except NotFound:
            return None

    async def write_lease(self, key: Key, spec: Mapping[str, Any], resource_version: str | None) -> dict[str, Any]:
        """Replace the Lease, or create it if ``resource_version`` is None.

        :raises Conflict: if the Lease has changed since it was read.
        """
        metadata = {"name": key.name, "namespace": key.namespace}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": dict(spec)}
        query = {"fieldManager": names.MANAGER_OPERATOR}
        if resource_version is None:
            return await self._send("POST", Kind.LEASE.path(key.namespace), query=query, body=body)
        metadata["resourceVersion"] = resource_version
        return await self._send("PUT", Kind.LEASE.path(key.namespace, key.name), query=query, body=body)

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Create an Event. The rate limit does not apply: :class:`EventRecorder` has a limit for Events alone.

        :raises NotLeading: if this process doesn't lead; then no call was made.
        """
        await self._send_event("POST", Kind.EVENT.path(namespace), body)

    async def count_event(self, key: Key, series: Mapping[str, Any]) -> None:
        """Write that the Event was repeated. :raises NotFound: if it has expired."""
        await self._send_event("PATCH", Kind.EVENT.path(key.namespace, key.name), {"series": dict(series)})

    async def _send_event(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        if not self.may_write():
            raise NotLeading(f"{method} {path}")
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        await self._send(
            method, path, query={"fieldManager": names.MANAGER_OPERATOR}, body=body, content_type=content_type
        )

    async def _get(self, path: str, namespace: str | None = None) -> dict[str, Any] | None:
        try:
            return await self._call("GET", path, namespace)
        except NotFound:
            return None

    async def _delete(self, kind: Kind, key: Key, body: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            return await self._change("DELETE", kind.path(key.namespace, key.name), key.namespace, body=body)
        except NotFound:
            return None

    async def _apply(self, kind: Kind, key: Key, body: Mapping[str, Any], part: str = "") -> dict[str, Any]:
        path = kind.path(key.namespace, key.name) + part
        query = {"fieldManager": names.MANAGER_OPERATOR, "force": "true"}
        content_type = "application/apply-patch+yaml"
        return await self._change("PATCH", path, key.namespace, query=query, body=body, content_type=content_type)

    async def _change(self, method: str, path: str, namespace: str, **rest: Any) -> dict[str, Any]:
        """Make a writing call.

        :raises NotLeading: if this process doesn't lead; then no call was made.
        """
        return await self._call(method, path, namespace, may_send=self.may_write, **rest)

    async def _call(
        self,
        method: str,
        path: str,
        namespace: str | None,
        *,
        may_send: Callable[[], bool] = lambda: True,
        **rest: Any,
    ) -> dict[str, Any]:
        """Make a call when it is the namespace's turn under the rate limit; retry after a 429."""
        for last in (*[False] * (_TRIES - 1), True):
            await self._rate.turn(namespace)
            if not may_send():
                raise NotLeading(f"{method} {path}")
            try:
                return await self._send(method, path, **rest)
            except TooManyRequests as error:
                self.on_throttled()
                self._rate.pause(error.pause_seconds or 1.0)
                if last:
                    raise
        raise AssertionError("unreachable")

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        try:
            _, url, headers, _, _ = await self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": content_type},
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(
                method, url, headers, dict(body) if body is not None else None, _request_timeout=self._timeout
            )
            data = await response.read()  # type: ignore[no-untyped-call]
        except Exception as error:  # also of the credentials, which are read for each call
            raise NoAnswer(f"{method} {path}: {type(error).__name__}: {error}") from error
        answer = read_json_object(data)
        if response.status >= 400:
            after = response.headers.get("Retry-After")
            raise error_of_answer(response.status, str(response.reason), answer, data, after)
        if isinstance(answer, NotJson):  # an empty listing would say that everything was deleted
            raise NoAnswer(f"{method} {path}: the answer can't be read: {answer.problem}")
        return answer
