"""The output of every container that has run is read, and of no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from spoke_jobs.cluster.cluster_client import SpokeJobClient
from spoke_jobs.cluster.pod_logs import read_outputs
from spoke_jobs.model import ContainerOutput
from spoke_jobs.shared.api_errors import ApiError, api_error

POD: dict[str, Any] = {
    "status": {
        "initContainerStatuses": [
            {"name": "migrate", "state": {"terminated": {"exitCode": 0}}},
            {"name": "proxy", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {}}},
            {"name": "later", "state": {"waiting": {"reason": "PodInitializing"}}},
        ],
        "containerStatuses": [
            {"name": "job", "state": {"terminated": {"exitCode": 1}}},
            {"name": "shipper", "state": {"running": {}}},
            {"name": "never", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
        ],
        "ephemeralContainerStatuses": [{"name": "debug", "state": {"running": {}}}],
    }
}


class Api:
    """A pod, and what its containers have printed; or an error."""

    namespace = "shop"

    def __init__(self, pod: dict[str, Any] | ApiError, logs: Mapping[str, bytes | ApiError]) -> None:
        self._pod, self._logs = pod, logs
        self.asked: list[str] = []

    def ask(self, path: str) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/shop/pods/p"
        if isinstance(self._pod, ApiError):
            raise self._pod
        return self._pod

    def read_lines(self, path: str, query: Mapping[str, str], _silent: float) -> Iterator[bytes]:
        assert path == "/api/v1/namespaces/shop/pods/p/log"
        self.asked.append(query["container"])
        found = self._logs.get(query["container"], b"")
        if isinstance(found, ApiError):
            raise found
        yield from found.split(b"\n")


def read(api: Api) -> tuple[ContainerOutput, ...]:
    return read_outputs(cast(SpokeJobClient, api), "p")


def test_every_container_that_has_run_is_read() -> None:
    api = Api(POD, {"migrate": b"done", "job": b"one\ntwo", "proxy": b"\xff", "shipper": b"", "debug": b"# "})
    assert read(api) == (
        ContainerOutput("migrate", "done"),
        ContainerOutput("proxy", "\N{REPLACEMENT CHARACTER}"),
        ContainerOutput("job", "one\ntwo"),
        ContainerOutput("debug", "# "),
    )
    assert api.asked == ["migrate", "proxy", "job", "shipper", "debug"]


def test_a_pod_that_is_gone_has_no_output() -> None:
    assert read(Api(api_error(404, "NotFound", "p", "p"), {})) == ()


def test_a_container_without_output_does_not_hide_the_others() -> None:
    api = Api(POD, {"migrate": api_error(400, "BadRequest", "gone"), "job": b"one"})
    assert read(api) == (ContainerOutput("job", "one"),)


@pytest.mark.parametrize("status", [403, 502])
def test_what_may_work_later_or_needs_a_right_is_reported(status: int) -> None:
    with pytest.raises(ApiError):
        read(Api(POD, {"job": api_error(status, "x", "x")}))
