"""The events that tell browsers that something may have changed."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine
from tests.many_files import many_files, with_high_number
from tests.waiting import patient

from spoke_jobs.web import change_stream
from spoke_jobs.web.change_stream import BEGIN, EVENT, ChangeStream

__all__ = ["many_files"]


class Wire:
    """Stands for the connection that listens."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.opened = 0

    def listen(self, _engine: object) -> socket.socket:
        self.opened += 1
        return self.theirs


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    wire = Wire()
    monkeypatch.setattr(change_stream, "listen", wire.listen)
    monkeypatch.setattr(change_stream, "SOONEST_SECONDS", 0.0)
    monkeypatch.setattr(change_stream, "LATEST_SECONDS", patient(600))
    yield wire
    wire.ours.close()
    wire.theirs.close()


@pytest.fixture
def stream() -> Iterator[ChangeStream]:
    engine = create_engine("sqlite://")
    stream = ChangeStream(engine)
    yield stream
    stream.close()
    engine.dispose()


async def following(events: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(patient(30)):
        return await anext(events)


async def test_one_connection_tells_all_viewers(wire: Wire, stream: ChangeStream) -> None:
    streams = [stream.events(notified=True) for _ in range(3)]
    assert [await following(events) for events in streams] == [BEGIN] * 3
    for _ in range(2):
        waits = [asyncio.ensure_future(anext(events)) for events in streams]
        wire.ours.send(b".")
        async with asyncio.timeout(patient(30)):
            assert await asyncio.gather(*waits) == [EVENT] * 3
    assert wire.opened == 1


@pytest.mark.usefixtures("many_files")
async def test_it_listens_however_many_files_the_process_has_open(wire: Wire, stream: ChangeStream) -> None:
    """An application that serves the dashboard may serve other things, too."""
    wire.theirs = with_high_number(wire.theirs)
    events = stream.events(notified=True)
    assert await following(events) == BEGIN
    wait = asyncio.ensure_future(following(events))
    wire.ours.send(b".")
    assert await wait == EVENT


async def test_notifications_tell_nothing_to_a_viewer_of_some_organizations(wire: Wire, stream: ChangeStream) -> None:
    everybody, some = stream.events(notified=True), stream.events(notified=False)
    assert await following(everybody) == await following(some) == BEGIN
    waits = asyncio.ensure_future(anext(some))
    for _ in range(2):
        wait = asyncio.ensure_future(following(everybody))
        wire.ours.send(b".")
        assert await wait == EVENT
    assert not waits.done()
    stream.end()
    with pytest.raises(StopAsyncIteration):
        await waits


async def test_events_come_at_intervals_without_notifications(
    stream: ChangeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite, for example."""
    monkeypatch.setattr(change_stream, "SOONEST_SECONDS", 0.0)
    monkeypatch.setattr(change_stream, "LATEST_SECONDS", 0.01)
    for notified in (True, False):
        events = stream.events(notified=notified)
        assert [await following(events) for _ in range(3)] == [BEGIN, EVENT, EVENT]


async def test_a_stream_ends(stream: ChangeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the browser is asked again who it is."""
    monkeypatch.setattr(change_stream, "STREAM_SECONDS", 0.0)
    assert [event async for event in stream.events(notified=True)] == [BEGIN]


async def test_all_streams_end_with_the_process(wire: Wire, stream: ChangeStream) -> None:
    streams = [stream.events(notified=notified) for notified in (True, False)]
    for events in streams:
        await following(events)
    waits = [asyncio.ensure_future(anext(events)) for events in streams]
    await asyncio.sleep(0)
    stream.end()
    async with asyncio.timeout(patient(30)):
        ended = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(each) for each in ended] == [StopAsyncIteration] * 2
    assert [event async for event in stream.events(notified=True)] == [BEGIN], "and none begins"


def test_one_that_nobody_looked_at_holds_nothing_open() -> None:
    """So an application that only makes the dashboard need not close it."""
    engine = create_engine("sqlite://")
    ChangeStream(engine)
    gc.collect()  # what it held open would be a warning, which fails a test
    engine.dispose()


async def test_there_are_so_many_at_most(wire: Wire, stream: ChangeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_stream, "MOST_STREAMS", 1)
    assert not stream.is_full
    events: Any = stream.events(notified=True)
    await following(events)
    assert stream.is_full
    await events.aclose()
    assert not stream.is_full
