"""The probe's answer."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from spoke_jobs.sync.health import STALE_SECONDS, Pulse, serve_health


class Clock:
    """A clock that a test sets forward."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def address(clock: Clock) -> Iterator[str]:
    pulse = Pulse(clock)
    pulse.role = "active"
    server = serve_health(pulse, 0, "127.0.0.1")
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_loop_that_turns_is_healthy(address: str) -> None:
    with urllib.request.urlopen(f"{address}/healthz", timeout=5) as response:
        assert json.load(response) == {"role": "active", "secondsSinceTurn": 0.0, "secondsSinceCompare": None}


@pytest.mark.parametrize(("path", "passed", "status"), [("/healthz", STALE_SECONDS, 503), ("/other", 0, 404)])
def test_a_loop_that_hangs_is_not(address: str, clock: Clock, path: str, passed: float, status: int) -> None:
    clock.now += passed
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{address}{path}", timeout=5)
    assert caught.value.code == status
    caught.value.close()
