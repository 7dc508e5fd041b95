"""What a dispatcher refuses before anything is sent, and what keys and callers are."""

from __future__ import annotations

import threading

import pytest
from tests.task_key import KEY
from tests.waiting import eventually

from spoke_jobs.errors import ConfigurationError, InvalidPayload
from spoke_jobs.payloads import TASK_LIMIT_BYTES
from spoke_jobs.tasks.client.dispatcher import TaskDispatcher, resolve_host
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions, port_of, usable_url
from spoke_jobs.tasks.server.auth import Callers


@pytest.mark.parametrize(
    "url",
    ["", "texting-tasks:8080", "ftp://host", "http://", "http://host:0", "http://host:port", "http://host:99999",
     "http://user:password@host", "http://host?a=b", "http://[::1", "http://host/#x"],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_refused_by_its_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="SPOKE_TASKS_URL") as caught:
        TaskDispatcher(url, KEY)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("key", ["", KEY[:31], f"two words {KEY}", f"line\nbreak {KEY}", f"schlüssel{KEY}"])
def test_a_key_that_cannot_be_used_is_refused_by_its_setting_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigurationError, match="SPOKE_TASKS_KEY") as caught:
        TaskDispatcher("http://host", key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(("url", "port"), [("http://h", 80), ("https://h", 443), ("http://h:8080/under/", 8080)])
def test_the_port_is_the_urls_or_its_schemes(url: str, port: int) -> None:
    assert port_of(usable_url(url)) == port


@pytest.mark.parametrize(
    ("name", "payload", "task_id"),
    [
        ("n", "x" * (TASK_LIMIT_BYTES + 1), None),
        ("n", "é" * (TASK_LIMIT_BYTES // 2 + 1), None),
        ("", "1", None),
        ("n" * 201, "1", None),
        ("n", "1", ""),
        ("n", "1", "a b"),
        ("n", "1", "a" * 101),
    ],
)
def test_what_no_server_would_take_is_not_taken(name: str, payload: str, task_id: str | None) -> None:
    dispatcher = TaskDispatcher("http://host.invalid", KEY)
    with pytest.raises(InvalidPayload) as caught:
        dispatcher.submit(name, payload, task_id)
    assert payload[:50] not in str(caught.value) or len(payload) < 50
    assert dispatcher.statistics().held == 0
    assert dispatcher.close(0)
    with pytest.raises(RuntimeError, match="closed"):
        dispatcher.submit("n", "1")


def test_a_literal_address_resolves_to_itself() -> None:
    assert resolve_host("127.0.0.2", 80) == ["127.0.0.2"]


def test_a_host_that_cannot_be_a_name_is_complained_of_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = TaskDispatcher("http://foo..bar", KEY, options=DispatcherOptions(resolve_seconds=0.01))
    dispatcher.submit("n", "1")
    eventually(lambda: caplog.text.count("SPOKE_TASKS_URL: foo..bar can't be resolved") >= 2, "a second try")
    dispatcher.close(0)


def test_a_thread_that_cannot_be_started_is_told_to_the_caller_and_the_next_task_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dispatcher = TaskDispatcher("http://127.0.0.1:9", KEY)
    start, refused = threading.Thread.start, ["spoke-task-delivery", "spoke-task-resolver"]

    def refuse(thread: threading.Thread) -> None:
        if thread.name in refused:
            refused.remove(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="can't start"):
            dispatcher.submit("n", "1")
    dispatcher.submit("n", "1")
    assert dispatcher.statistics().held == 1
    dispatcher.close(0)


@pytest.mark.parametrize(
    ("shown", "taken"),
    [
        (f"Bearer {KEY}", True),
        (f"Bearer  {KEY} ", True),
        (None, False),
        (KEY, False),
        (f"Bearer {KEY}2", False),
        (f"Bearer {KEY[:-1]}é", False),
        (f"Basic {KEY}", False),
    ],
)
async def test_only_the_key_is_taken_and_none_is_repeated(shown: str | None, taken: bool) -> None:
    refusal = await Callers(KEY).refusal(shown, "10.0.0.1")
    assert (refusal is None) == taken
    assert refusal is None or (refusal.status == 401 and KEY[:8] not in refusal.text)
