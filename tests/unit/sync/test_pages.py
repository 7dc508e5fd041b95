"""SpokeJobs of any size are listed in pages that take little memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client as kubernetes

from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.shared.api_errors import NoAnswer, TooManyRequests
from spoke_jobs.shared.page_limits import FIRST_LIMIT, MOST_OF_A_PAGE, MOST_OF_AN_ANSWER

SMALL, LARGE = 100, 1_000_000


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[SpokeJobClient]:
    """The client of an API server that answers so."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configuration = kubernetes.Configuration()
    configuration.host, configuration.retries = f"http://127.0.0.1:{server.server_port}", False
    client = SpokeJobClient(kubernetes.ApiClient(configuration), "ns", Timeouts())
    try:
        yield client
    finally:
        client.close()
        server.shutdown()
        server.server_close()


@contextmanager
def listing(sizes: list[int]) -> Iterator[tuple[SpokeJobClient, list[int]]]:
    """An API server with SpokeJobs that have annotations of these sizes, its client, and the limits that are asked."""
    asked: list[int] = []

    class Pages(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            limit, first = int(query["limit"][0]), int(query.get("continue", ["0"])[0])
            asked.append(limit)
            following = str(first + limit) if first + limit < len(sizes) else ""
            numbers = range(first, min(first + limit, len(sizes)))
            page = [{"metadata": {"name": f"j{n}", "annotations": {"a": "x" * sizes[n]}}} for n in numbers]
            body = json.dumps({"metadata": {"resourceVersion": "9", "continue": following}, "items": page}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:  # the client has read enough
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with answering(Pages) as client:
        yield client, asked


@pytest.mark.parametrize(
    "sizes",
    [[LARGE] * 12, [SMALL] * FIRST_LIMIT + [LARGE] * 12, [SMALL] * 1000],
    ids=["large", "large after small", "small"],
)
def test_a_listing_is_whole_and_no_page_is_large(sizes: list[int]) -> None:
    with listing(sizes) as (client, asked):
        pages = list(client.pages())
    assert [item["metadata"]["name"] for page in pages for item in page.items] == [f"j{n}" for n in range(len(sizes))]
    assert all(len(json.dumps(page.items)) <= MOST_OF_A_PAGE for page in pages)
    assert len(asked) < 20


def test_an_object_that_no_api_server_would_store_is_no_answer() -> None:
    with listing([2 * MOST_OF_AN_ANSWER]) as (client, _), pytest.raises(NoAnswer, match="more than"):
        list(client.pages())


class Busy(BaseHTTPRequestHandler):
    """It asks for a pause."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"kind": "Status", "reason": "TooManyRequests", "message": "later"}).encode()
        self.send_response(429)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_an_error_says_for_how_long_the_api_server_wants_no_calls() -> None:
    with answering(Busy) as client:
        with pytest.raises(TooManyRequests) as listed:
            list(client.pages())
        with pytest.raises(TooManyRequests) as watched:
            list(client.watch("1", 5))
        with pytest.raises(TooManyRequests) as read:
            list(client.read_lines("/log", {}, 5))
    assert [found.value.pause_seconds for found in (listed, watched, read)] == [7, 7, 7]
