"""Servers and dispatchers that a test starts; ended with it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tasks.support.certificates import Authority, Signed
from tests.integration.tasks.support.servers import KEY, Server, task_server
from tests.waiting import eventually

from spoke_jobs.tasks.client.dispatcher import TaskDispatcher
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions

StartServer = Callable[..., Server]
MakeDispatcher = Callable[..., TaskDispatcher]
QUICK = DispatcherOptions(backoff_max_seconds=0.5, retry_seconds=0.05, exit_seconds=2.0)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the default settings, for all tests of this process."""
    with task_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """For a test that needs no other settings. It uses ids of its own, and leaves no task that runs."""
    shared_server.begin()
    yield shared_server
    eventually(lambda: shared_server.metric("spoke_tasks_unfinished") == 0, what="the end of a test's tasks")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def signed(authority: Authority) -> Signed:
    """A certificate of localhost."""
    return authority.sign("one")


@pytest.fixture(scope="session")
def trusting(authority: Authority) -> ssl.SSLContext:
    """A client's, which trusts that certificate."""
    return ssl.create_default_context(cafile=str(authority.cert))


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts `spoke-jobs tasks`; give a folder for a trace of its own, settings as SPOKE_TASKS_* in lower case."""
    with ExitStack() as stack:

        def start(folder: str = "", **settings: Any) -> Server:
            place = tmp_path / folder
            place.mkdir(exist_ok=True)
            return stack.enter_context(task_server(place, **settings))

        yield start


@pytest.fixture
def make_dispatcher() -> Iterator[MakeDispatcher]:
    """Makes dispatchers that retry quickly; options by name."""
    made: list[TaskDispatcher] = []

    def make(url: str, key: str = KEY, resolve: Any = None, **options: Any) -> TaskDispatcher:
        dispatcher = TaskDispatcher(url, key, options=replace(QUICK, **options), resolve=resolve)
        made.append(dispatcher)
        return dispatcher

    yield make
    for dispatcher in made:
        dispatcher.close(0)
