"""Forms as they arrive."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Message

from spoke_jobs.web.guard import FORM_LIMIT_BYTES, read_form


def form_request(*messages: Message) -> Request:
    """A request whose body arrives so."""
    left = list(messages)

    async def receive() -> Message:
        return left.pop(0)

    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_form_arrives_in_parts() -> None:
    assert await read_form(form_request(part(b"a=1&"), part(b"b=", more=False))) == {"a": "1", "b": ""}


async def test_a_form_that_a_browser_has_given_up_is_no_error() -> None:
    """Otherwise anybody could fill the log with tracebacks."""
    assert await read_form(form_request(part(b"a=1&"), {"type": "http.disconnect"})) is None


async def test_a_large_form_is_not_read_to_its_end() -> None:
    assert await read_form(form_request(part(b"a=" + b"x" * FORM_LIMIT_BYTES))) is None
