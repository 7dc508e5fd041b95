from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import Sized
from typing import cast

import pytest
from kopf._cogs.structs.references import Resource
from tests.waiting import patient

from spoke_jobs.contract.names import LABEL_SPOKEJOB
from spoke_jobs.shared.api_errors import api_error
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs_operator.core.objects.read_objects import POD_WARNINGS
from spoke_jobs_operator.shell.api.operator_client import Client
from spoke_jobs_operator.shell.watching import streams
from spoke_jobs_operator.shell.watching.streams import Backoffs, Streams, _settings


def test_backoffs_are_endless_capped_and_begin_anew() -> None:
    backoffs = Backoffs()
    first = list(itertools.islice(backoffs, 50))
    assert (first[0], max(first), first[-1]) == (1, 10, 10)
    assert next(iter(backoffs)) == 1
    assert not isinstance(backoffs, Sized), "kopf would count its tries"


def test_kopf_is_kept_from_all_that_writes_or_looks_around() -> None:
    settings = _settings()
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.process.ultimate_exiting_timeout is None
    assert settings.watching.inactivity_timeout > 60
    assert settings.watching.chunk_size == 500


def test_only_what_is_used_is_watched_and_selected_on_the_server() -> None:
    def asked(plural: str) -> set[str]:
        """The selectors of a watch, as kopf gathers them."""
        resource = next(Resource(*streams._selector(kind)) for kind in streams._KINDS if kind.plural == plural)
        watching = _settings().watching
        return {*watching.label_selectors.collect(resource), *watching.field_selectors.collect(resource)}

    assert {kind.plural for kind in streams._KINDS} == {"spokejobs", "jobs", "pods", "podtemplates", "events"}
    assert asked("jobs") == asked("pods") == {LABEL_SPOKEJOB}, "other people's never come here"
    (of_events,) = asked("events")
    assert "type=Warning" in of_events
    assert asked("spokejobs") == asked("podtemplates") == set()


def selects(selector: str, event: dict[str, str]) -> bool:
    """Whether a field selector of the API server selects an Event with these fields."""
    terms = [re.fullmatch(r"([\w.]+)(!?=)(.*)", term) for term in selector.split(",")]
    return all(term is not None and (event[term[1]] == term[3]) == (term[2] == "=") for term in terms)


@pytest.mark.parametrize("reason", sorted({"FailedCreate", *POD_WARNINGS}))
def test_the_api_server_sends_each_event_that_is_read(reason: str) -> None:
    (of_events,) = _settings().watching.field_selectors.collect(Resource("", "v1", "events"))
    kind = "Job" if reason == "FailedCreate" else "Pod"
    assert selects(of_events, {"type": "Warning", "reason": reason, "involvedObject.kind": kind})
    assert not selects(of_events, {"type": "Warning", "reason": "BackOff", "involvedObject.kind": kind})
    assert not selects(of_events, {"type": "Normal", "reason": reason, "involvedObject.kind": kind})


class Server:
    """An API server that learns of the resource only at the third question."""

    def __init__(self) -> None:
        self.asked = 0

    async def is_served(self) -> bool:
        self.asked += 1
        if self.asked == 1:
            raise api_error(0, "NoAnswer", "not there")
        return self.asked > 2


async def test_a_missing_crd_is_said_and_streams_that_end_start_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streams, "SERVED_CHECK_SECONDS", 0.001)
    monkeypatch.setattr(streams, "RESTARTS", Backoff(base=0.001, maximum=0.001))
    server = Server()
    listened: list[int] = []
    restarts: list[int] = []
    done = asyncio.Event()

    async def listen_once(self: Streams, loop: asyncio.AbstractEventLoop) -> str:
        listened.append(server.asked)
        if len(listened) == 3:
            done.set()
            await asyncio.Event().wait()
        return "WatchingError: oops"

    monkeypatch.setattr(Streams, "_listen_once", listen_once)
    supervisor = Streams(cast(Client, server), [], lambda *_: None, lambda: restarts.append(len(listened)))
    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(supervisor.run())
        async with asyncio.timeout(patient(30)):
            await done.wait()
        task.cancel()
    assert listened == [3, 4, 5]
    assert restarts == [1, 2], "what happened meanwhile has to be found"
    assert "could not read spokejobs.jobs.spoke.dev from the API server: not there" in caplog.messages[0]
    assert "install the CRD" in caplog.messages[1]
    assert "the event streams ended (WatchingError: oops)" in caplog.messages[2]
