"""What a hostile namespace can make the API server answer: large objects, many objects, and what is no JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client as kubernetes

from spoke_jobs.shared.page_limits import FIRST_LIMIT, MOST_OF_A_PAGE, MOST_OF_AN_ANSWER
from spoke_jobs_operator.core.objects.read_objects import MOST_OF_AN_EVENT
from spoke_jobs_operator.shell.api.bounded_answers import TooLarge, session_options, slim
from spoke_jobs_operator.shell.api.operator_client import Client, Kind

Object = dict[str, Any]
SMALL, LARGE = 100, 1_000_000


def event(number: int, size: int) -> Object:
    about = {"kind": "Pod", "namespace": "hostile", "name": f"no-{number}", "uid": f"u{number}"}
    metadata = {"name": f"e{number}", "namespace": "hostile", "uid": f"e{number}", "resourceVersion": "5"}
    return {"metadata": metadata, "involvedObject": about, "reason": "FailedMount", "message": "x" * size}


class Pages:
    """An API server that lists objects in pages, and remembers how many it was asked for."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.asked: list[int] = []
        self.read: list[int] = []

    async def handle(self, request: web.Request) -> web.Response:
        limit, first = int(request.query["limit"]), int(request.query.get("continue", "0"))
        self.asked.append(limit)
        page = [event(number, size) for number, size in enumerate(self.sizes)][first : first + limit]
        following = str(first + limit) if first + limit < len(self.sizes) else ""
        metadata = {"resourceVersion": "9", "continue": following}
        return web.json_response({"kind": "EventList", "metadata": metadata, "items": page})


Handler = Callable[[web.Request], Any]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Any]]:
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("/"))

    yield start
    for server in servers:
        await server.close()


async def listed(url: str) -> list[list[Object]]:
    """The pages of a listing by the operator's own client."""
    configuration = kubernetes.Configuration()
    configuration.host, configuration.client_session_kwargs = url.rstrip("/"), session_options()
    client = Client(kubernetes.ApiClient(configuration), 30.0)
    try:
        return [page.items async for page in client.listing(Kind.EVENT, "hostile").pages]
    finally:
        await client.close()


@pytest.mark.parametrize(
    "sizes",
    [[LARGE] * 12, [SMALL] * FIRST_LIMIT + [LARGE] * 12, [SMALL] * 1000, [LARGE] + [SMALL] * 300 + [LARGE]],
    ids=["large", "large after small", "small", "large among small"],
)
async def test_a_listing_is_whole_and_no_page_is_large(sizes: list[int], serve: Any) -> None:
    pages = Pages(sizes)
    found = await listed(await serve(pages.handle))
    assert [item["metadata"]["name"] for page in found for item in page] == [f"e{n}" for n in range(len(sizes))]
    assert all(sum(len(item["message"]) for item in page) <= MOST_OF_A_PAGE for page in found)
    assert len(pages.asked) < 40
    if sizes == [SMALL] * 1000:
        assert pages.asked[:3] == [FIRST_LIMIT, 2 * FIRST_LIMIT, 4 * FIRST_LIMIT], "small objects come in large pages"


async def test_a_single_object_that_no_api_server_would_store_is_refused(serve: Any) -> None:
    url = await serve(Pages([2 * MOST_OF_AN_ANSWER]).handle)
    with pytest.raises(Exception, match="TooLarge"):
        await listed(url)


async def test_what_kopf_lists_is_cut_and_strictly_read(serve: Any) -> None:
    async with aiohttp.ClientSession(**session_options()) as session:
        async with session.get(await serve(Pages([LARGE] * 12).handle) + "api/v1/events?limit=500") as answer:
            body = await answer.json()
        assert 0 < len(body["items"]) < 12
        assert {len(item["message"]) for item in body["items"]} == {MOST_OF_AN_EVENT}
        assert len(json.dumps(body)) < 20_000

        async def nonsense(_: web.Request) -> web.Response:
            return web.Response(body=b'{"kind": "EventList", "items": [NaN]}')

        with pytest.raises(aiohttp.ClientPayloadError, match="can't be read"):
            await (await session.get(await serve(nonsense))).json()


async def test_what_kopf_watches_is_cut_and_what_cannot_be_read_is_left_out(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sent = [
        json.dumps({"type": "ADDED", "object": {"kind": "Event", **event(1, LARGE)}}).encode(),
        b'{"type": "ADDED", "object": {"kind": "Event", "message": NaN}}',
        b'"no object"',
        json.dumps({"type": "DELETED", "object": {"kind": "Event", **event(2, SMALL)}}).encode(),
        b'{"type": "ERROR", "object": {"kind": "Status", "code": 410}}',
    ]

    async def watch(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for line in sent:  # in two parts, of which the second has the end of the line
            await answer.write(line[:50])
            await asyncio.sleep(0)
            await answer.write(line[50:] + b"\n")
        await answer.write_eof()
        return answer

    async with (
        aiohttp.ClientSession(**session_options()) as session,
        session.get(await serve(watch) + "api/v1/events?watch=true") as answer,
    ):
        lines = [line async for part in answer.content.iter_chunked(2**20) for line in part.split(b"\n") if line]
    events = [json.loads(line) for line in lines]
    assert [item["type"] for item in events] == ["ADDED", "DELETED", "ERROR"]
    assert [len(item["object"].get("message", "")) for item in events] == [MOST_OF_AN_EVENT, SMALL, 0]
    assert events[2]["object"]["code"] == 410
    assert sum("can't be read" in message for message in caplog.messages) == 2


async def test_a_watched_object_without_an_end_is_not_read_on(serve: Any) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(2 * MOST_OF_AN_ANSWER // LARGE):
            await answer.write(b"x" * LARGE)
        return answer

    async with (
        aiohttp.ClientSession(**session_options()) as session,
        session.get(await serve(endless) + "?watch=true") as answer,
    ):
        with pytest.raises(TooLarge):
            [part async for part in answer.content.iter_chunked(2**20)]


def test_large_fields_that_nobody_reads_are_removed() -> None:
    large = {"managedFields": [{"x": "y"}], "finalizers": ["f"]}
    metadata = {"name": "n", "labels": {"a": "b"}, "annotations": {"c": "d"}, **large}
    container = {"name": "job", "image": "i", "resources": {}, "env": [{"name": "X", "value": "x"}]}
    pod = slim({"metadata": metadata, "spec": {"nodeName": "n", "volumes": [{}], "containers": [container]}}, "Pod")
    assert pod["metadata"] == {"name": "n", "labels": {"a": "b"}}
    assert pod["spec"] == {"nodeName": "n", "containers": [{"name": "job", "image": "i", "resources": {}}]}
    job = slim({"metadata": metadata, "spec": {"parallelism": 1, "template": {}}}, "Job")
    assert job["metadata"] == {"name": "n", "labels": {"a": "b"}, "annotations": {"c": "d"}}
    assert job["spec"] == {"parallelism": 1}
    assert cast(Object, slim({"metadata": metadata}, "SpokeLimit")["metadata"])["managedFields"] == [{"x": "y"}]
