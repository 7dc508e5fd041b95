"""Calls to the API server on the SpokeJobs of one namespace: plain JSON in and out, each with a timeout.

The official client provides configuration, authentication and transport. Its retries are off: each caller decides
whether to retry.
"""

from __future__ import annotations

import json
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
from spoke_jobs.contract.api_errors import ApiError, NoAnswer, NotFound, StreamSilent, error_of_answer
from spoke_jobs.errors import ConfigurationError

PAGE = 500
SYNC = "spoke-sync"
"""The field manager of sync's writes."""
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """One chunk of a listing."""

    items: list[Body]
    resource_version: str
    """The version of the listing as a whole, from which a watch continues."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of a call, in seconds."""

    connect: float = 3.0
    read: float = 10.0


class SpokeJobClient:
    """The SpokeJobs of a namespace. Safe to share between threads, not across a fork."""

    def __init__(self, api: kubernetes.ApiClient, namespace: str, timeouts: Timeouts) -> None:
        self.namespace = namespace
        self._api = api
        self._timeouts = timeouts
        self._path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}"

    @classmethod
    def connect(cls, namespace: str, timeouts: Timeouts) -> SpokeJobClient:
        """Configure from the pod's service account, or from KUBECONFIG or ``~/.kube/config``. Send nothing yet.

        :raises ConfigurationError: if there is neither.
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

        :raises StreamSilent: if nothing comes for so many seconds.
        :raises NoAnswer: if the connection breaks.
        :raises ApiError: if the API server refuses the call.
        """
        response = self._send("GET", path, query, read_seconds=silent_seconds)
        rest = b""
        try:
            if response.status >= 400:
                raise _error(response.status, response.reason, response.read())
            for chunk in response.stream(amt=None, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
            if rest:
                yield rest
        except urllib3.exceptions.ReadTimeoutError as error:
            raise StreamSilent("the stream went silent") from error
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"the connection ended: {type(error).__name__}") from error
        finally:
            response.close()

    def create(self, body: Body) -> Body:
        """Create a SpokeJob. :raises AlreadyExists: if the name is taken."""
        return self._call("POST", self._path, body=body)

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
        return dict(answer.get("data") or {})

    def pages(self) -> Iterator[Page]:
        """List all SpokeJobs in chunks. All are of one snapshot, which is no older than the call."""
        query = {"limit": str(PAGE)}
        while True:
            answer = self._call("GET", self._path, query)
            metadata = answer.get("metadata") or {}
            yield Page(answer.get("items") or [], str(metadata.get("resourceVersion") or ""))
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    def apply_status(self, name: str, uid: str, resource_version: str, status: Body) -> Body:
        """Write all fields of the status that sync owns. The operator's fields stay as they are.

        :raises Conflict: if the SpokeJob was replaced, or has changed since it was read.
        """
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "uid": uid,
                "resourceVersion": resource_version,
            },
            "status": status,
        }
        query = {"fieldManager": SYNC, "force": "true"}
        return self._call("PATCH", f"{self._path}/{name}/status", query, body, _APPLY)

    def cancel(self, name: str, uid: str) -> Body:
        """Ask the operator to cancel the SpokeJob. It can't be undone.

        :raises Conflict: if the SpokeJob was replaced.
        """
        body = {"metadata": {"uid": uid}, "spec": {"cancel": True}}
        return self._call("PATCH", f"{self._path}/{name}", {"fieldManager": SYNC}, body, _MERGE)

    def watch(self, resource_version: str, seconds: int) -> Iterator[tuple[str, Body]]:
        """Watch from a version for so many seconds: type and object of each event, bookmarks included.

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
                raise _error(response.status, response.reason, response.read())
            for line in _lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise error_of_answer(int(status.get("code") or 500), "", status, b"")
                yield event["type"], event["object"]
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
        try:
            response = self._send(method, path, query, body, content_type, self._timeouts.read)
            data = response.read()
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"no answer from the API server: {type(error).__name__}") from error
        if response.status >= 400:
            raise _error(response.status, response.reason, data)
        answer: Body = json.loads(data)
        return answer

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
            raise NoAnswer(f"the API server can't be asked: {type(error).__name__}") from error


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    for chunk in response.stream(amt=None, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())


def _error(status: int, reason: str, data: bytes) -> ApiError:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    return error_of_answer(status, reason, answer, data)
