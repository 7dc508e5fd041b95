"""Whatever is sent to a real server: no 5xx, no crash, no growth of its memory; its answers are as documented."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.tasks.support.servers import KEY, Server
from tests.waiting import patient

from spoke_jobs.tasks.protocol import messages
from spoke_jobs.tasks.protocol.messages import Task
from spoke_jobs.tasks.server.openapi import document

AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}
UNHURRIED = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "database": None,
    "derandomize": True,
}
_GROWTH_LIMIT_BYTES = 3_000_000
"""Of what was sent once and is sent again: the first time, caches fill and allocators take what they will keep."""


@schemathesis.serializer(messages.NDJSON)
def ndjson(_context: Any, value: Any) -> bytes:
    """A text as it is; what isn't one as a line of JSON."""
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def exercised(server: Server, examples: int) -> int:
    """So many requests for each operation of the document; how many in all."""
    schema = schemathesis.openapi.from_dict(document())
    session = requests.Session()
    session.trust_env = False
    count = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        def exercise(case: Any) -> None:
            nonlocal count
            count += 1
            response = case.call(base_url=server.url, headers=AUTHORIZATION, session=session)
            case.validate_response(
                response,
                checks=[
                    schemathesis.checks.not_a_server_error,
                    schemathesis.specs.openapi.checks.status_code_conformance,
                    schemathesis.specs.openapi.checks.content_type_conformance,
                ],
                additional_checks=[],
            )

        # What takes nothing has no wrong form.
        for mode in ("positive", "negative") if operation.method.upper() == "POST" else ("positive",):
            strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
            settings(max_examples=examples, **UNHURRIED)(given(case=strategy)(exercise))()
    session.close()
    return count


def grows_not(server: Server, again: Callable[[], object]) -> None:
    """Do the same twice: at last the server is ready, and needs little more memory than after the first time."""
    again()
    before = server.memory()
    again()
    assert server.ready()
    growth = server.memory() - before
    print(f"{growth / 1024:.0f} KiB")
    assert growth < _GROWTH_LIMIT_BYTES


def test_what_the_document_allows_and_what_it_does_not_is_answered_as_documented(server: Server) -> None:
    answer = server.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == document()
    counts: list[int] = []
    grows_not(server, lambda: counts.append(exercised(server, 15)))
    assert counts[0] == counts[1] > 25


def test_every_framing_gets_an_answer_for_each_line_and_the_good_ones_run(server: Server) -> None:
    """Lines of anything, between good tasks, however the body is cut up."""
    url, headers = f"{server.url}{messages.PATH}", AUTHORIZATION | {"content-type": messages.NDJSON}
    anything = st.binary(max_size=300).map(lambda line: line.replace(b"\n", b"")) | st.builds(
        lambda value: json.dumps(value).encode(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=5)
                | st.dictionaries(
                    st.sampled_from(["id", "name", "payload", "attempt", "waited", "x"]), inner, max_size=6
                )
            ),
            max_leaves=20,
        ),
    )

    with httpx.Client(trust_env=False, timeout=patient(60)) as client:

        @settings(max_examples=60, **UNHURRIED)
        @given(lines=st.lists(anything, max_size=8), cuts=st.lists(st.integers(1, 200), max_size=6), number=st.uuids())
        def check(lines: list[bytes], cuts: list[int], number: Any) -> None:
            good = [messages.task_line(Task(f"{number}-{end}", "noop", "1")) for end in "ab"]
            body = good[0] + b"".join(line + b"\n" for line in lines) + good[1]
            parts, rest = [], body
            for cut in cuts:
                parts.append(rest[:cut])
                rest = rest[cut:]
            response = client.post(url, content=iter([*filter(None, parts), rest]), headers=headers)
            assert response.status_code == 200
            acks = [ack for line in response.content.split(b"\n") if (ack := messages.parse_acknowledgement(line))]
            assert len(acks) == 2 + sum(bool(line) and not line.isspace() for line in lines)
            done = {ack.id for ack in acks if ack.outcome == "done"}
            assert {f"{number}-a", f"{number}-b"} <= done

        grows_not(server, check)


def test_what_is_no_http_ends_its_own_connection_only(server: Server) -> None:
    @settings(max_examples=60, **UNHURRIED)
    @given(st.binary(min_size=1, max_size=400))
    def check(data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=patient(30)) as sender:
            sender.sendall(data + b"\r\n\r\n")
            sender.shutdown(socket.SHUT_WR)
            while sender.recv(4096):
                pass

    grows_not(server, check)
