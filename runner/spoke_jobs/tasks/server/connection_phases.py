"""The phases of a connection, and how long each may take in all, however many bytes arrive meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """What a connection waits for."""

    HEADERS = "headers"
    """The rest of a request's headers, or the first request."""
    BODY = "body"
    """The rest of a request's body."""
    ANSWER = "answer"
    """The server. Tasks run, so there is no limit here."""
    WRITE = "write"
    """The peer, which does not read the answer."""
    IDLE = "idle"
    """The next request."""
    CLOSE = "close"
    """The peer, which does not read the rest of the last answer."""


PHASE_SECONDS: Mapping[Phase, float] = {
    Phase.HEADERS: 10.0,
    Phase.BODY: 45.0,  # the application's own limit answers with 408 earlier
    Phase.WRITE: 30.0,
    Phase.IDLE: 75.0,  # dispatchers close idle connections earlier, so they never send on one that the server closes
    Phase.CLOSE: 5.0,
}


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """What a connection's phase depends on."""

    closing: bool
    write_blocked: bool
    body_open: bool
    """The headers have arrived, and the body's end has not."""
    answering: bool
    partial: bool
    """A part of the next request's headers has arrived."""
    answers: int
    """Requests answered so far."""


def phase_of(state: ConnectionState) -> Phase:
    """Return the phase."""
    if state.closing:
        return Phase.CLOSE
    if state.write_blocked:
        return Phase.WRITE
    if state.body_open:
        return Phase.BODY
    if state.answering:
        return Phase.ANSWER
    return Phase.HEADERS if state.partial or not state.answers else Phase.IDLE


class PhaseTimer:
    """Measures how long a connection is in one phase of one request. It has no timer: the caller polls :meth:`overdue`.

    :param now: when the connection began.
    """

    __slots__ = ("_key", "_since")

    def __init__(self, now: float) -> None:
        self._key = (Phase.HEADERS, 0)
        self._since = now

    def overdue(self, state: ConnectionState, now: float, limits: Mapping[Phase, float]) -> Phase | None:
        """Return the phase if its time is up; None otherwise."""
        phase = phase_of(state)
        key = (phase, state.answers)
        if key != self._key:
            self._key, self._since = key, now
            return None
        limit = limits.get(phase)
        return phase if limit is not None and now - self._since >= limit else None
