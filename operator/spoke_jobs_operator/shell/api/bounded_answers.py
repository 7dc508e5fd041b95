"""Bound the memory that the API server's answers take, and read them with the strict reader.

Each answer is read up to a number of bytes. A page of a listing that has more is asked for again with fewer objects
(:mod:`spoke_jobs.shared.page_limits`).

Both of the operator's clients use this: the one for its own calls, and kopf, which watches. For kopf, what the operator
does not read is removed as well: kopf keeps the objects of a page until each of them is handled.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from pydantic_core import to_json

from spoke_jobs.contract.custom_resources.kinds import USUAL_METADATA, Kind
from spoke_jobs.shared.line_splitter import LineSplitter
from spoke_jobs.shared.object_fields import items, mapping, text
from spoke_jobs.shared.page_limits import FIRST_LIMIT, MOST_OF_AN_ANSWER, after_page, after_too_large, most_bytes
from spoke_jobs.shared.strict_json import NotJson, read_json_object
from spoke_jobs_operator.core.objects.read_objects import MOST_OF_AN_EVENT

logger = logging.getLogger(__name__)


class TooLarge(aiohttp.ClientPayloadError):
    """An answer has more bytes than may be read."""


class BoundedContent:
    """The content of an answer. Other methods are those of aiohttp's stream."""

    def __init__(self, content: aiohttp.StreamReader, most: int) -> None:
        self._content = content
        self._most = most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def read(self) -> bytes:
        """Read everything. :raises TooLarge: if there is more than may be read."""
        found = bytearray()
        async for data in self._content.iter_any():
            found += data
            if len(found) > self._most:
                raise TooLarge(f"the answer has more than {self._most} bytes")
        return bytes(found)


class WatchedContent(BoundedContent):
    """The events of a watch: what can't be read is left out, and so is what the operator does not use."""

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield the lines, each as soon as it is complete."""
        splitter = LineSplitter()
        async for data in self._content.iter_chunked(size):
            if splitter.begun_bytes + len(data) > self._most:
                raise TooLarge(f"the event of a watch has more than {self._most} bytes")
            for line in splitter.feed(data):
                if line.strip() and (event := slim_event(line)) is not None:
                    yield event


class BoundedAnswer(aiohttp.ClientResponse):
    """An answer of the API server."""

    async def start(self, connection: Any) -> BoundedAnswer:
        """Wait for the headers, and bound what follows."""
        await super().start(connection)
        if "watch" in self.url.query:
            self.content = WatchedContent(self.content, MOST_OF_AN_ANSWER)  # type: ignore[assignment]
        else:
            most = most_bytes(_limit_of(self.url.query) or 1)
            self.content = BoundedContent(self.content, most)  # type: ignore[assignment]
        return self

    async def json(self, **_: Any) -> Any:
        """Read the answer, without what the operator does not use. This is what kopf calls."""
        answer = read_json_object(await self.read())
        if isinstance(answer, NotJson):
            raise aiohttp.ClientPayloadError(f"the answer can't be read: {answer.problem}")
        kind = text(answer, "kind")
        if kind.endswith("List"):
            answer["items"] = [slim(item, kind.removesuffix("List")) for item in items(answer, "items")]
        return answer


class PageLimits:
    """A middleware of aiohttp that chooses how many objects each page of a listing may have.

    A listing begins with the limit of the one before.
    """

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send the request, again if its page is too large."""
        most, path = _limit_of(request.url.query), request.url.path
        if request.method != "GET" or not most:
            return await handler(request)
        limit = min(most, self._limits.get(path, FIRST_LIMIT))
        while True:
            request.url = request.url.update_query(limit=str(limit))
            answer = await handler(request)
            if answer.status >= 400:
                return answer
            try:
                size = len(await answer.read())
            except TooLarge:
                if limit == 1:
                    raise
                limit = self._limits[path] = after_too_large(limit)
                continue
            self._limits[path] = after_page(limit, size)
            return answer


def session_options() -> dict[str, Any]:
    """Return the options of a session that bounds its answers."""
    # Without trust_env=False, aiohttp looks for a .netrc file at every call, in a thread, which takes a tenth of a busy
    # operator's processor time.
    return {"trust_env": False, "response_class": BoundedAnswer, "middlewares": (PageLimits(),)}


def slim(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return an object of a watch or a listing without large fields that the operator does not read."""
    used = _METADATA | _MORE_METADATA.get(kind, USUAL_METADATA)
    metadata = {name: value for name, value in mapping(body, "metadata").items() if name in used}
    kept = {**body, "metadata": metadata}
    if kind == "Job":
        kept["spec"] = {name: value for name, value in mapping(body, "spec").items() if name != "template"}
    elif kind == "Pod":
        kept["spec"] = {name: value for name, value in mapping(body, "spec").items() if name != "volumes"}
        for group in ("initContainers", "containers", "ephemeralContainers"):
            if group in kept["spec"]:
                kept["spec"][group] = [_slim_container(item) for item in items(kept["spec"], group)]
    elif kind == "Event":
        kept = {name: _cut(body[name]) for name in ("apiVersion", "kind", "reason", "message") if name in body}
        about = {name: _cut(value) for name, value in mapping(body, "involvedObject").items()}
        kept |= {"metadata": metadata, "involvedObject": about}
    return kept


_METADATA = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "ownerReferences",
    }
)
_MORE_METADATA = {kind.kind: kind.value.kept_metadata for kind in Kind}


def _cut(value: object) -> object:
    return value[:MOST_OF_AN_EVENT] if isinstance(value, str) else value


def _slim_container(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name in ("name", "image", "restartPolicy", "resources")}


def slim_event(line: bytes) -> bytes | None:
    """Return the line of a watch without large fields that the operator does not read; None if it can't be read."""
    event = read_json_object(line)
    if isinstance(event, NotJson):  # the next comparison finds what has changed
        logger.warning("an event of a watch can't be read: %s", event.problem)
        return None
    body = mapping(event, "object")
    return to_json({**event, "object": slim(body, text(body, "kind"))}) + b"\n"


def _limit_of(query: Mapping[str, str]) -> int:
    limit = query.get("limit", "")
    return int(limit) if limit.isascii() and limit.isdigit() else 0
