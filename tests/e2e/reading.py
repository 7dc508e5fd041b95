"""`kubectl get` without kubectl, for what tests ask again and again: to start kubectl takes more than a read does."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import kubernetes

Object = dict[str, Any]
_KINDS = {
    "pods": "/api/v1",
    "podtemplates": "/api/v1",
    "services": "/api/v1",
    "deployments": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "spokejobs": "/apis/jobs.spoke.dev/v1",
    "spokelimits": "/apis/jobs.spoke.dev/v1",
}
"""Where objects in namespaces are read, by plural."""
_OPTIONS = {"--selector": "labelSelector", "--field-selector": "fieldSelector"}


def path_of(arguments: Sequence[str]) -> str | None:
    """The path and query of what `kubectl get` reads with these arguments; None for what only kubectl knows."""
    options: dict[str, str] = {}
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("-"):
            words.append(word)
            continue
        option, equals, value = word.partition("=")
        options[option] = value if equals else next(rest, "")
    namespace = options.pop("--namespace", "")
    if not namespace or len(words) not in (1, 2) or options.keys() - _OPTIONS.keys():
        return None
    kind, *names = words
    plural = kind if kind in _KINDS else f"{kind}s"
    if plural not in _KINDS or (names and options):
        return None
    path = "/".join([_KINDS[plural], "namespaces", namespace, plural, *names])
    query = urlencode({_OPTIONS[option]: value for option, value in options.items()})
    return f"{path}?{query}" if query else path


def read(kubeconfig: str, path: str) -> Object | None:
    """The object or the list, as kubectl prints it; None if there is no such object, or the list is empty."""
    api = _client(kubeconfig)
    request = api.param_serialize(
        "GET", path, header_params={"Accept": "application/json"}, auth_settings=["BearerToken"]
    )
    response = api.call_api(*request)
    answer = response.read()
    if response.status == 404:
        return None
    assert response.status == 200, f"GET {path}: {response.status}: {answer!r}"
    return _as_printed(json.loads(answer))


def close() -> None:
    """Close the connections of this process."""
    for api in _CLIENTS:
        api.rest_client.close()
    _CLIENTS.clear()
    _client.cache_clear()


_CLIENTS: list[Any] = []


@functools.cache
def _client(kubeconfig: str) -> Any:
    _CLIENTS.append(kubernetes.config.new_client_from_config(kubeconfig))
    return _CLIENTS[-1]


def _as_printed(found: Object) -> Object | None:
    """Items of a list with their kind, and nothing with its managed fields."""
    if "items" in found:
        kind = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
        found["items"] = [kind | item for item in found["items"]]
    for item in found.get("items", [found]):
        item["metadata"].pop("managedFields", None)
    return found if found.get("items", True) else None
