from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kubernetes.aio import client as kubernetes

from spoke_jobs.contract.custom_resources.spokejob import SpokeJobStatus
from spoke_jobs.shared.api_errors import ApiError, NoAnswer
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.call_rate import CallRate
from spoke_jobs_operator.shell.api.operator_client import Client, Kind, NotLeading


@pytest.mark.parametrize(
    ("namespace", "name", "path"),
    [
        ("ns", "a.b-1", "/api/v1/namespaces/ns/podtemplates/a.b-1"),
        ("ns", "../pods/x", "/api/v1/namespaces/ns/podtemplates/..%2Fpods%2Fx"),
        ("ns", "a?b#c", "/api/v1/namespaces/ns/podtemplates/a%3Fb%23c"),
        ("n/s", None, "/api/v1/namespaces/n%2Fs/podtemplates"),
        (None, None, "/api/v1/podtemplates"),
    ],
)
def test_a_name_stays_one_segment_of_its_path(namespace: str | None, name: str | None, path: str) -> None:
    assert Kind.TEMPLATE.path(namespace, name) == path


class Server:
    """An API server at the other end of the library's transport: gives the answers that it was told to, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.answers: list[tuple[int, dict[str, str], dict[str, Any] | bytes]] = []

    async def param_serialize(self, method: str, path: str, **_: Any) -> tuple[str, str, dict[str, str], None, None]:
        return method, path, {}, None, None

    async def call_api(self, method: str, url: str, headers: Any, body: Any, **_: Any) -> Any:
        self.calls.append((method, url, body))
        status, more, answer = self.answers.pop(0) if self.answers else (200, {}, {})

        async def read() -> bytes:
            return answer if isinstance(answer, bytes) else json.dumps(answer).encode()

        return SimpleNamespace(status=status, reason="Reason", headers=more, read=read)


class Scene:
    """A client whose waits are recorded instead of waited."""

    def __init__(self) -> None:
        self.server = Server()
        self.clock = 0.0
        self.throttled = 0
        self.rate = CallRate(1000, 1000, clock=lambda: self.clock, later=self.later)
        self.client = Client(cast(kubernetes.ApiClient, self.server), 1.0, self.rate)
        self.client.on_throttled = self.count

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.clock += seconds
        asyncio.get_running_loop().call_soon(call)

    def count(self) -> None:
        self.throttled += 1

    @property
    def methods(self) -> list[str]:
        return [method for method, _, _ in self.server.calls]


KEY = Key("ns", "sj")
OVERLOADED = (429, {"Retry-After": "7"}, {"message": "too many requests"})


async def test_overloaded_is_waited_for_as_long_as_the_api_server_says() -> None:
    s = Scene()
    s.server.answers = [OVERLOADED, (429, {}, {}), (200, {}, {"kind": "Job"})]
    assert await s.client.create_job("ns", {}) == {"kind": "Job"}
    assert (s.clock, s.throttled) == (pytest.approx(8.0), 2), "7 as told, and one where nothing is said"


async def test_overloaded_for_longer_is_left_to_the_work_queue() -> None:
    s = Scene()
    s.server.answers = [OVERLOADED] * 9
    with pytest.raises(ApiError) as caught:
        await s.client.read(Kind.JOB, KEY)
    assert (caught.value.status, caught.value.retry_after_seconds) == (429, 7)
    assert len(s.server.calls) == 3
    s.server.answers = []
    await s.client.read(Kind.POD, KEY)
    assert s.clock == pytest.approx(21), "nor does anybody else come sooner"


@pytest.mark.parametrize("status", [400, 403, 409, 500, 503])
async def test_no_other_answer_is_tried_again_here(status: int) -> None:
    s = Scene()
    s.server.answers = [(status, {"Retry-After": "7"}, {"reason": "Because"})]
    with pytest.raises(ApiError, match="Because"):
        await s.client.create_job("ns", {})
    assert (len(s.server.calls), s.throttled, s.clock) == (1, 0, 0.0)


async def test_the_calls_of_namespaces_take_turns() -> None:
    s = Scene()
    turns: list[str | None] = []
    turn = s.rate.turn

    async def count(namespace: str | None = None) -> None:
        turns.append(namespace)
        await turn(namespace)

    s.rate.turn = count  # type: ignore[method-assign]
    await s.client.read(Kind.JOB, KEY)
    await s.client.create_job("ns", {})
    await s.client.delete_job(KEY, "uid", "1", wait_for_pods=True)
    await s.client.publish(KEY, {})
    assert turns == ["ns"] * 4
    [page async for page in s.client.listing(Kind.JOB, None).pages]
    assert turns[4:] == [None]


@pytest.mark.parametrize("answer", [b"", b"[]", b"[" * 500, b"\xff"])
async def test_an_answer_that_cannot_be_read_is_no_answer_rather_than_an_empty_listing(answer: bytes) -> None:
    """An empty listing would say that everything was deleted."""
    s = Scene()
    s.server.answers = [(200, {}, answer)]
    with pytest.raises(NoAnswer):
        await anext(s.client.listing(Kind.JOB, None).pages)


async def test_credentials_that_cannot_be_read_are_an_outage_and_nobody_s_fault() -> None:
    s = Scene()

    async def unreadable(*_: Any, **__: Any) -> Any:
        raise PermissionError("token")

    s.server.param_serialize = unreadable  # type: ignore[method-assign]
    with pytest.raises(NoAnswer, match="PermissionError"):
        await s.client.read(Kind.JOB, KEY)


WRITES: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "create": lambda client: client.create_job("ns", {}),
    "delete": lambda client: client.delete_job(KEY, "u", "1", wait_for_pods=True),
    "delete spokejob": lambda client: client.delete_spokejob(KEY, "u", "1"),
    "status": lambda client: client.apply_status(KEY, "u", "1", SpokeJobStatus()),
    "publish": lambda client: client.publish(KEY, {}),
}


@pytest.mark.parametrize("write", WRITES)
async def test_who_does_not_lead_writes_nothing_and_goes_on_reading(write: str) -> None:
    s = Scene()
    s.client.may_write = lambda: False
    with pytest.raises(NotLeading):
        await WRITES[write](s.client)
    assert s.server.calls == []
    await s.client.read(Kind.JOB, KEY)
    assert s.methods == ["GET"]


@pytest.mark.parametrize("write", WRITES)
async def test_the_lead_is_looked_at_after_the_last_wait(write: str) -> None:
    s = Scene()
    s.client.may_write = lambda: s.clock < 5
    s.server.answers = [OVERLOADED]
    with pytest.raises(NotLeading):
        await WRITES[write](s.client)
    assert len(s.server.calls) == 1


async def test_the_lease_s_calls_wait_for_nobody_and_need_no_lead() -> None:
    s = Scene()
    s.client.may_write = lambda: False
    s.client._rate.pause(30)
    s.server.answers = [(404, {}, {}), (201, {}, {"made": True}), (200, {}, {"kept": True})]
    assert await s.client.read_lease(KEY) is None
    assert await s.client.write_lease(KEY, {}, None) == {"made": True}
    assert await s.client.write_lease(KEY, {}, "7") == {"kept": True}
    assert (s.clock, s.methods) == (0.0, ["GET", "POST", "PUT"])
    assert s.server.calls[2][2]["metadata"] == {"name": "sj", "namespace": "ns", "resourceVersion": "7"}
    s.server.answers = [OVERLOADED]
    with pytest.raises(ApiError):
        await s.client.read_lease(KEY)
    assert len(s.server.calls) == 4, "its own loop tries again, and minds its deadline"


async def test_what_is_deleted_is_what_was_read() -> None:
    s = Scene()
    s.server.answers = [(200, {}, {}), (200, {}, {}), (404, {}, {}), (409, {}, {"reason": "Conflict"})]
    await s.client.delete_job(KEY, "u", "5", wait_for_pods=False)
    await s.client.delete_spokejob(KEY, "u", "6")
    assert [body["preconditions"] for _, _, body in s.server.calls] == [
        {"uid": "u", "resourceVersion": "5"},
        {"uid": "u", "resourceVersion": "6"},
    ]
    assert await s.client.delete_job(KEY, "u", "5", wait_for_pods=True) is None
    with pytest.raises(ApiError, match="Conflict"):
        await s.client.delete_job(KEY, "u", "5", wait_for_pods=True)


async def test_a_status_is_written_onto_what_was_read() -> None:
    s = Scene()
    s.server.answers = [(200, {}, {}), (409, {}, {"reason": "Conflict"})]
    await s.client.apply_status(KEY, "u", "5", SpokeJobStatus())
    assert s.server.calls[0][2]["metadata"] == {"name": "sj", "namespace": "ns", "uid": "u", "resourceVersion": "5"}
    with pytest.raises(ApiError, match="Conflict"):
        await s.client.apply_status(KEY, "u", "5", SpokeJobStatus())
