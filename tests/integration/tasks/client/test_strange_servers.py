"""The dispatcher against servers that answer what ours doesn't: another release, a proxy, something else altogether."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.integration.tasks.conftest import MakeDispatcher
from tests.integration.tasks.support.servers import KEY
from tests.waiting import eventually, patient

from spoke_jobs.model import SUSPECT_LOSSES
from spoke_jobs.tasks.client import sender
from spoke_jobs.tasks.client.dispatcher import TaskDispatcher
from spoke_jobs.tasks.protocol.messages import NDJSON

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[int, list[dict[str, Any]]], Answer]


def done(tasks: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps({"id": task["id"], "outcome": "done"}).encode() + b"\n" for task in tasks)


class Strange:
    """A server that answers by a script of the number of the request, from 0, and its tasks."""

    def __init__(self, script: Script, host: str = "127.0.0.1", port: int = 0) -> None:
        self.connections = 0
        self.batches: list[list[dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        strange, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                with lock:
                    strange.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                tasks = [json.loads(line) for line in body.splitlines()]
                with lock:
                    number = len(strange.batches)
                    strange.batches.append(tasks)
                    strange.headers.append({key.lower(): value for key, value in self.headers.items()})
                    strange.paths.append(self.path)
                status, headers, answer = script(number, tasks)
                self.send_response(status)
                usual = {"Content-Length": str(len(answer)), "Content-Type": NDJSON}
                for name, value in (usual | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)
                if "Content-Length" in headers:  # a lie: break off
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((host, port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


Against = Callable[..., tuple[Strange, TaskDispatcher]]
Gathered = Callable[[Script, tuple[str, ...]], tuple[Strange, TaskDispatcher]]


@pytest.fixture
def strange() -> Iterator[Callable[..., Strange]]:
    made: list[Strange] = []

    def make(script: Script, *where: Any) -> Strange:
        made.append(Strange(script, *where))
        return made[-1]

    yield make
    for server in made:
        server.server.shutdown()
        server.server.server_close()


@pytest.fixture
def against(strange: Callable[[Script], Strange], make_dispatcher: MakeDispatcher) -> Against:
    """A server with a script, and a dispatcher with options that sends to it."""

    def make(script: Script, **options: Any) -> tuple[Strange, TaskDispatcher]:
        server = strange(script)
        return server, make_dispatcher(f"http://127.0.0.1:{server.port}", **options)

    return make


@pytest.fixture
def gathered(against: Against) -> Gathered:
    """Sends tasks that wait together while a first one is answered, and returns once all have ended."""

    def send(script: Script, ids: tuple[str, ...]) -> tuple[Strange, TaskDispatcher]:
        ready = threading.Event()

        def waits(number: int, tasks: list[dict[str, Any]]) -> Answer:
            ready.wait(patient(60))
            return script(number, tasks)

        server, dispatcher = against(waits, max_requests=1)
        dispatcher.submit("n", "1", "first")
        eventually(lambda: len(server.batches) == 1)
        for task_id in ids:
            dispatcher.submit("n", "1", task_id)
        ready.set()
        assert dispatcher.flush(patient(60))
        return server, dispatcher

    return send


@pytest.mark.parametrize(
    "first",
    [
        (500, {}, b"oops"),
        (400, {"Content-Type": "text/html"}, b"<html>The plain HTTP request was sent to HTTPS port</html>"),
        (403, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, b"<html>a proxy's</html>"),
        (403, {"Content-Type": "text/html", "Content-Length": "1000"}, b"<html>a proxy's"),
        (503, {}, b"a proxy's"),
        (429, {"Retry-After": "soon"}, b""),
        (302, {"Location": "http://elsewhere.invalid/"}, b""),
        (200, {}, b""),
        (200, {"Content-Type": "application/json"}, b'{"id": "a", "outcome": "done"}\n'),
        (200, {}, b"<html>a sign-in page</html>\n"),
        (200, {}, b"x" * 100_000),
        (200, {}, b'{"id": "somebody else\'s", "outcome": "done"}\n'),
        (200, {"Content-Length": "1000"}, b"\n"),
        (200, {}, b'{"id": "a", "outcome": "postponed"}\n'),
    ],
)
def test_whatever_isn_t_an_acknowledgement_has_the_task_delivered_again(against: Against, first: Answer) -> None:
    server, dispatcher = against(lambda number, tasks: (200, {}, done(tasks)) if number else first)
    dispatcher.submit("n", "1", "a")
    assert dispatcher.flush(patient(60))
    assert [[task["id"] for task in batch] for batch in server.batches] == [["a"], ["a"]]
    assert [batch[0]["attempt"] for batch in server.batches] == [1, 1]
    assert dispatcher.statistics().redelivered == 1


@pytest.mark.parametrize(
    ("content_type", "answer", "says"),
    [
        ("text/html; charset=utf-8", b"<html>It works!</html>\n", "it answers 200 with 'text/html'"),
        (NDJSON, b'{"status": "ok"}\n', "a line of the answer isn't an acknowledgement"),
    ],
)
def test_what_is_no_task_server_has_lost_no_task(
    against: Against, caplog: pytest.LogCaptureFixture, content_type: str, answer: bytes, says: str
) -> None:
    """For example an ingress's default backend, which answers 200 to everything. No replica has died."""
    liars = SUSPECT_LOSSES + 3
    _server, dispatcher = against(
        lambda number, tasks: (
            (200, {"Content-Type": content_type}, answer) if number < liars else (200, {}, done(tasks))
        ),
        losses=SUSPECT_LOSSES + 1,
    )
    dispatcher.submit("n", "1")
    assert dispatcher.flush(patient(60))
    assert (dispatcher.statistics().delivered, dispatcher.statistics().redelivered) == (1, liars)
    assert f"{says}; SPOKE_TASKS_URL must name a task deployment" in caplog.text


PAGE = b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>nginx</body></html>"


def test_a_task_that_a_proxy_refuses_fails_while_others_get_through(
    against: Against, caplog: pytest.LogCaptureFixture
) -> None:
    def script(number: int, tasks: list[dict[str, Any]]) -> Answer:
        bad = any(task["id"] == "bad" for task in tasks)
        return (413, {"Content-Type": "text/html"}, PAGE) if bad else (200, {}, done(tasks))

    server, dispatcher = against(script, losses=4, retry_seconds=0.01)
    dispatcher.submit("n", "1", "bad")
    others = 0

    def has_failed() -> bool:
        nonlocal others
        dispatcher.submit("n", "1")
        others += 1
        return dispatcher.statistics().failed == 1

    eventually(has_failed)
    assert dispatcher.flush(patient(60))
    assert dispatcher.statistics().delivered == others
    sent = [task for batch in server.batches for task in batch if task["id"] == "bad"]
    assert {task["attempt"] for task in sent} == {1}, "it has not been run"
    assert len(sent) >= 4
    (failure,) = (r.getMessage() for r in caplog.records if "failed for good" in r.getMessage())
    assert failure == (
        "task bad (n) failed for good: RefusedByProxy, something in front of the task server refused it 4 times, "
        'last with 413 "413 Request Entity Too Large"'
    )


def test_a_proxy_that_refuses_everything_loses_no_task(against: Against, caplog: pytest.LogCaptureFixture) -> None:
    def script(number: int, tasks: list[dict[str, Any]]) -> Answer:
        refused = 1 <= number < 40
        return (403, {"Content-Type": "text/html"}, PAGE) if refused else (200, {}, done(tasks))

    _server, dispatcher = against(script, losses=2, backoff_max_seconds=0.01)
    dispatcher.submit("n", "1")
    assert dispatcher.flush(patient(60))
    for _ in range(10):
        dispatcher.submit("n", "1")
    assert dispatcher.flush(patient(60))
    statistics = dispatcher.statistics()
    assert (statistics.delivered, statistics.failed) == (11, 0)
    assert 'it answers 403 "413 Request Entity Too Large"' in caplog.text


def test_acknowledgements_of_others_tasks_without_end_do_not_fill_the_log(
    against: Against, caplog: pytest.LogCaptureFixture
) -> None:
    others = done([{"id": "somebody else's"}]) * 5_000

    def script(number: int, tasks: list[dict[str, Any]]) -> Answer:
        return 200, {}, done(tasks) if number else others + done(tasks)

    _, dispatcher = against(script, losses=1)
    dispatcher.submit("n", "1")
    assert dispatcher.flush(patient(60))
    assert dispatcher.statistics().delivered == 1
    assert caplog.text.count("a task that was not sent to it") == 1
    assert "more tasks than were sent; SPOKE_TASKS_URL must name a task deployment" in caplog.text


def test_a_server_that_asks_to_wait_again_and_again_is_complained_of(
    against: Against, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "_THROTTLED_SECONDS", 0.3)
    may_end = threading.Event()

    def script(number: int, tasks: list[dict[str, Any]]) -> Answer:
        return (200, {}, done(tasks)) if may_end.is_set() else (429, {"Retry-After": "0.05"}, b"later")

    server, dispatcher = against(script)
    dispatcher.submit("n", "1")
    eventually(lambda: "now with 429" in caplog.text)
    count = len(server.batches)
    eventually(lambda: len(server.batches) > count + 3)
    assert caplog.text.count("it has refused all tasks") == 1, "not at every try"
    may_end.set()
    assert dispatcher.flush(patient(60))


def test_a_key_that_is_refused_is_complained_of_by_its_setting_and_tried_again(
    against: Against, caplog: pytest.LogCaptureFixture
) -> None:
    refused = (401, {"Content-Type": "text/plain"}, b"another key")
    _server, dispatcher = against(lambda number, tasks: (200, {}, done(tasks)) if number else refused)
    dispatcher.submit("n", "1")
    assert dispatcher.flush(patient(60))
    assert "401: it refuses the shared key; SPOKE_TASKS_KEY must be the same" in caplog.text
    assert KEY not in caplog.text


def test_a_batch_that_is_refused_as_a_whole_is_taken_apart_to_find_the_bad_one(
    gathered: Gathered, caplog: pytest.LogCaptureFixture
) -> None:
    def script(number: int, tasks: list[dict[str, Any]]) -> Answer:
        bad = any(task["id"] == "bad" for task in tasks)
        return (400, {"Content-Type": "text/plain; charset=utf-8"}, b"no") if bad else (200, {}, done(tasks))

    server, dispatcher = gathered(script, ("good-1", "bad", "good-2"))
    assert [len(batch) for batch in server.batches[1:]] == [3, 1, 1, 1]
    statistics = dispatcher.statistics()
    assert (statistics.delivered, statistics.failed) == (3, 1)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == [
        "task bad (n) failed for good: the server refuses it with 400"
    ]


def test_what_acknowledged_tasks_of_a_broken_answer_leave_is_all_that_is_sent_again(gathered: Gathered) -> None:
    def script(number: int, tasks: list[dict[str, Any]]) -> Answer:
        return (200, {"Content-Length": "5000"}, done(tasks[:3])) if number == 1 else (200, {}, done(tasks))

    server, _ = gathered(script, tuple("01234"))
    assert ["".join(task["id"] for task in batch) for batch in server.batches[1:]] == ["01234", "34"]


def test_one_id_submitted_twice_is_sent_in_two_requests(gathered: Gathered) -> None:
    server, dispatcher = gathered(lambda number, tasks: (200, {}, done(tasks)), ("same", "same", "other"))
    assert sorted(len(batch) for batch in server.batches) == [1, 1, 2]
    assert dispatcher.statistics().delivered == 4


def test_host_key_and_path_are_kept_whatever_address_is_used(
    strange: Callable[[Script], Strange], make_dispatcher: MakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server = strange(lambda number, tasks: (200, {}, done(tasks)))
    dispatcher = make_dispatcher(
        f"http://texting-tasks.invalid:{server.port}/under/", resolve=lambda host, port: ["127.0.0.1"]
    )
    dispatcher.submit("n", '{"a": 1}', "a")
    assert dispatcher.flush(patient(60))
    assert server.headers[0]["host"] == f"texting-tasks.invalid:{server.port}"
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert server.paths == ["/under/v1/tasks"]
    ((sent,),) = server.batches
    assert 0 <= sent.pop("waited") < 60
    assert sent == {"id": "a", "name": "n", "attempt": 1, "payload": '{"a": 1}'}


def test_each_replica_is_sent_to_over_one_connection_that_is_kept(
    strange: Callable[..., Strange], make_dispatcher: MakeDispatcher
) -> None:
    first = strange(lambda number, tasks: (200, {}, done(tasks)))
    second = strange(lambda number, tasks: (200, {}, done(tasks)), "127.0.0.2", first.port)
    hosts = ["127.0.0.1", "127.0.0.2"]
    dispatcher = make_dispatcher(f"http://texting-tasks.invalid:{first.port}", resolve=lambda _host, _port: hosts)
    while not (len(first.batches) > 5 and len(second.batches) > 5):  # which one is chance
        dispatcher.submit("n", "1")
        assert dispatcher.flush(patient(60))
    assert (first.connections, second.connections) == (1, 1)


def test_a_fault_of_ours_in_the_delivering_thread_loses_nothing(
    against: Against, caplog: pytest.LogCaptureFixture
) -> None:
    _, dispatcher = against(lambda number, tasks: (200, {}, done(tasks)))
    faults = iter([ZeroDivisionError("ours")])
    take = dispatcher._buffer.take

    def faulty(*limits: int, **options: bool) -> list[Any]:
        if (fault := next(faults, None)) is not None:
            raise fault
        return take(*limits, **options)

    dispatcher._buffer.take = faulty  # type: ignore[method-assign]
    dispatcher.submit("n", "1")
    assert dispatcher.flush(patient(60))
    assert "restarting the delivery of tasks" in caplog.text
