"""Calls to the API server on the SpokeJobs of one namespace: plain JSON in and out, each with a timeout.

The official client provides configuration, authentication and transport. Its retries are off: each caller decides
whether to retry.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client as kubernetes
from kubernetes import config as kubernetes_config
from kubernetes.config.config_exception import ConfigException

from spoke_jobs.cluster import kube_environment
from spoke_jobs.contract import names
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.api_errors import ApiError, NoAnswer, NotFound, StreamSilent, error_of_answer
from spoke_jobs.shared.line_splitter import complete_lines, lines_of
from spoke_jobs.shared.object_fields import Page, mapping, number, page_of, text
from spoke_jobs.shared.page_limits import FIRST_LIMIT, MOST_OF_AN_ANSWER, after_page, after_too_large, most_bytes
from spoke_jobs.shared.strict_json import NotJson, read_json_object

_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of a call, in seconds."""

    connect: float = 3.0
    read: float = 10.0


class _TooLarge(NoAnswer):
    """An answer has more bytes than may be read."""


def _read(data: bytes) -> Body:
    answer = read_json_object(data)
    if isinstance(answer, NotJson):
        raise NoAnswer(f"the API server's answer can't be read: {answer.problem}")
    return answer


class SpokeJobClient:
    """The SpokeJobs of a namespace. Safe to share between threads, not across a fork."""

    def __init__(self, api: kubernetes.ApiClient, namespace: str, timeouts: Timeouts) -> None:
        self.namespace = namespace
        self._api = api
        self._timeouts = timeouts
        self._path = Kind.SPOKEJOB.path(namespace)

    @classmethod
    def connect(cls, namespace: str, timeouts: Timeouts) -> SpokeJobClient:
        """Configure from the pod's service account, or from KUBECONFIG or ``~/.kube/config``. Send nothing yet.

        :raises ConfigurationError: if none of them exists.
        """
        configuration = kubernetes.Configuration()
        try:
            if kube_environment.in_cluster():
                kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                # Pass the path: the client's default is the value that KUBECONFIG had when it was imported.
                path = os.environ.get("KUBECONFIG") or None
                kubernetes_config.load_kube_config(path, client_configuration=configuration)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError) as error:
            raise ConfigurationError(
                f"there are no credentials for a Kubernetes API server ({error}): set KUBECONFIG, or give the pod a "
                "service account whose token is mounted"
            ) from None
        configuration.retries = False
        configuration.keep_alive = True  # otherwise the next call may wait on a connection that a firewall dropped
        return cls(kubernetes.ApiClient(configuration), namespace, timeouts)

    @property
    def server(self) -> str:
        """The API server's address."""
        return str(self._api.configuration.host)

    def close(self) -> None:
        """Close the connections."""
        self._api.rest_client.close()

    def ask(self, path: str, query: Mapping[str, str] | None = None, body: Body | None = None) -> Body:
        """GET a path, or POST a body to it.

        :raises ApiError: if the call fails.
        """
        return self._call("POST" if body is not None else "GET", path, query, body)

    def read_lines(self, path: str, query: Mapping[str, str], silent_seconds: float) -> Iterator[bytes]:
        """Read a text stream line by line.

        :raises StreamSilent: if nothing comes for ``silent_seconds``.
        :raises NoAnswer: if the connection breaks.
        :raises ApiError: if the API server refuses the call.
        """
        response = self._send("GET", path, query, read_seconds=silent_seconds)
        try:
            if response.status >= 400:
                raise _error(response, response.read())
            yield from lines_of(response.stream(amt=None, decode_content=False))
        except urllib3.exceptions.ReadTimeoutError as error:
            raise StreamSilent("the stream went silent") from error
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"the connection ended: {type(error).__name__}") from error
        finally:
            response.close()

    def create(self, body: Body) -> Body:
        """Create a SpokeJob. :raises AlreadyExists: if the name is taken."""
        return self._call("POST", self._path, {"fieldManager": names.MANAGER_RUNNER}, body)

    def get(self, name: str) -> Body | None:
        """Read a SpokeJob; None if the API server says that it doesn't exist."""
        try:
            return self._call("GET", f"{self._path}/{name}")
        except NotFound as error:
            # While the CRD is being replaced, the whole resource is missing. The object may still exist.
            if error.object_name == name:
                return None
            raise

    def config_map(self, name: str) -> dict[str, str] | None:
        """Read the data of a ConfigMap of the namespace; None if it doesn't exist."""
        try:
            answer = self._call("GET", f"/api/v1/namespaces/{self.namespace}/configmaps/{name}")
        except NotFound:
            return None
        data = mapping(answer, "data")
        return {name: text(data, name) for name in data}

    def pod_template(self, name: str) -> Body | None:
        """Read a PodTemplate of the namespace; None if it doesn't exist."""
        try:
            return self._call("GET", f"/api/v1/namespaces/{self.namespace}/podtemplates/{name}")
        except NotFound:
            return None

    def pages(self) -> Iterator[Page]:
        """List all SpokeJobs in chunks. All are of one snapshot, which is no older than the call."""
        return self._pages(self._path)

    def _pages(self, path: str, selector: str = "") -> Iterator[Page]:
        query = {"labelSelector": selector} if selector else {}
        limit = FIRST_LIMIT
        while True:
            try:
                data = self._answer("GET", path, query | {"limit": str(limit)}, most_bytes=most_bytes(limit))
            except _TooLarge:
                if limit == 1:
                    raise
                limit = after_too_large(limit)
                continue
            page = page_of(_read(data))
            limit = after_page(limit, len(data))
            yield page
            if not page.following:
                return
            query["continue"] = page.following

    def list_objects(self, kind: Kind, labels: Mapping[str, str]) -> Iterator[Body]:
        """List the objects of a kind that have these labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        for page in self._pages(kind.path(self.namespace), selector):
            yield from page.items

    def create_object(self, kind: Kind, name: str, labels: Mapping[str, str], spec: Body) -> Body:
        """Create an object as sync. :raises AlreadyExists: if the name is taken."""
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": spec,
        }
        return self._call("POST", kind.path(self.namespace), {"fieldManager": names.MANAGER_SYNC}, body)

    def patch_object(self, kind: Kind, name: str, uid: str, spec: Body) -> Body:
        """Change fields of an object's spec as sync; null removes a field.

        :raises Conflict: if it was replaced.
        """
        body = {"metadata": {"uid": uid}, "spec": spec}
        return self._call("PATCH", kind.path(self.namespace, name), {"fieldManager": names.MANAGER_SYNC}, body, _MERGE)

    def delete_object(self, kind: Kind, name: str, uid: str) -> None:
        """Delete an object.

        :raises Conflict: if it was replaced.
        """
        self._call("DELETE", kind.path(self.namespace, name), None, {"preconditions": {"uid": uid}})

    def apply_status(self, name: str, uid: str, resource_version: str, status: Body) -> Body:
        """Write all fields of the status that sync owns. The operator's fields stay as they are.

        :raises Conflict: if the SpokeJob was replaced, or has changed since it was read.
        """
        body = {
            "apiVersion": names.API_VERSION,
            "kind": Kind.SPOKEJOB.kind,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "uid": uid,
                "resourceVersion": resource_version,
            },
            "status": status,
        }
        query = {"fieldManager": names.MANAGER_SYNC, "force": "true"}
        return self._call("PATCH", f"{self._path}/{name}/status", query, body, _APPLY)

    def cancel(self, name: str, uid: str) -> Body:
        """Ask the operator to cancel the SpokeJob. The request can't be withdrawn.

        :raises Conflict: if the SpokeJob was replaced.
        """
        body = {"metadata": {"uid": uid}, "spec": {"cancel": True}}
        return self._call("PATCH", f"{self._path}/{name}", {"fieldManager": names.MANAGER_SYNC}, body, _MERGE)

    def change_start(self, name: str, uid: str, priority: int | None, suspend: bool | None) -> Body:
        """Change when the operator starts the SpokeJob's next attempt. None leaves a field as it is.

        :raises Conflict: if the SpokeJob was replaced.
        :raises Invalid: if the cluster's definition of SpokeJobs does not allow it.
        """
        metadata: Body = {"uid": uid}
        given = {"priority": priority, "suspend": suspend}
        if suspend is not None:
            metadata["annotations"] = {names.ANNOTATION_SUSPENDED_BY: names.MANAGER_SYNC if suspend else None}
        body = {"metadata": metadata, "spec": {name: value for name, value in given.items() if value is not None}}
        return self._call("PATCH", f"{self._path}/{name}", {"fieldManager": names.MANAGER_SYNC}, body, _MERGE)

    def watch(self, resource_version: str, seconds: int) -> Iterator[tuple[str, Body]]:
        """Watch from a version for ``seconds``. Yield the type and object of each event, bookmarks included.

        :raises Gone: if the version is too old to continue from.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        # A watch that is silent for longer than its duration is dead, even if the connection looks alive.
        response = self._send("GET", self._path, query, read_seconds=seconds + 5.0)
        try:
            if response.status >= 400:
                raise _error(response, response.read())
            for line in complete_lines(response.stream(amt=None, decode_content=False)):
                if not line.strip():
                    continue
                event = read_json_object(line)
                if isinstance(event, NotJson):
                    raise NoAnswer(f"an event of the watch can't be read: {event.problem}")
                body = mapping(event, "object")
                if event.get("type") == "ERROR":
                    raise error_of_answer(number(body, "code") or 500, "", body, b"")
                yield text(event, "type"), dict(body)
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"the watch ended: {type(error).__name__}") from error
        finally:
            response.close()

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        content_type: str = "application/json",
    ) -> Body:
        return _read(self._answer(method, path, query, body, content_type))

    def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        content_type: str = "application/json",
        most_bytes: int = MOST_OF_AN_ANSWER,
    ) -> bytes:
        try:
            response = self._send(method, path, query, body, content_type, self._timeouts.read)
            data: bytes = response.read(most_bytes + 1)
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"no answer from the API server: {type(error).__name__}") from error
        if len(data) > most_bytes:
            response.close()  # the rest is not read
            raise _TooLarge(f"the API server's answer has more than {most_bytes} bytes")
        response.release_conn()
        if response.status >= 400:
            raise _error(response, data)
        return data

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        content_type: str = "application/json",
        read_seconds: float = 0.0,
    ) -> Any:
        try:
            _, url, headers, _, _ = self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": content_type},
                auth_settings=["BearerToken"],
            )
            timeouts = (self._timeouts.connect, read_seconds)
            return self._api.call_api(method, url, headers, body, _request_timeout=timeouts).response
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"no answer from the API server: {type(error).__name__}") from error
        except (kubernetes.ApiException, OSError) as error:  # a TLS error; a token that can't be read
            raise NoAnswer(f"the API server can't be called: {type(error).__name__}") from error


def _error(response: Any, data: bytes) -> ApiError:
    after = response.headers.get("Retry-After")
    return error_of_answer(response.status, response.reason, read_json_object(data), data, after)
