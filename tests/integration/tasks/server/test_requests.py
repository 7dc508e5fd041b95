"""What a real server answers to requests made by hand: repeats, overload, and everything that isn't right."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from tests import plain_http
from tests.integration.tasks.conftest import StartServer
from tests.integration.tasks.support.servers import COMMAND, KEY, Server, environment
from tests.ports import free_port, loopbacks
from tests.preloaded import Program, completed
from tests.waiting import eventually, patient

from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.payloads import TASK_LIMIT_BYTES
from spoke_jobs.tasks.protocol import messages
from spoke_jobs.tasks.protocol.messages import Acknowledgement, Task, TaskOutcome


def test_an_application_without_tasks_has_a_server_that_is_ready(start_server: StartServer) -> None:
    """Or the installation of an application that only has jobs would wait for its task deployment."""
    server = start_server(SPOKE_APP="jobs_only_app:registry")
    assert server.get("/readyz").status_code == 200
    assert server.get("/healthz").status_code == 200
    assert server.acknowledged(gated("x"))["x"].cause == TaskCause.UNKNOWN_TASK
    server.terminate()
    assert server.stopped() == 0
    assert "declares no task; this server is idle" in server.log.read_text()


def gated(task_id: str, name: str = "gated") -> Task:
    """Runs until the server's gate is opened."""
    return Task(task_id, name, json.dumps(task_id.partition("-")[0]))


@pytest.fixture
def x() -> str:
    """An id that no other test has used."""
    return f"x-{uuid4()}"


def test_a_redelivery_joins_the_run_and_later_gets_its_outcome(server: Server, x: str) -> None:
    answers: list[dict[str | None, Acknowledgement]] = []
    joined, recalled = (server.metric(f"spoke_tasks_{name}_total") for name in ("joined", "recalled"))

    def send() -> None:
        answers.append(server.acknowledged(gated(x)))

    first, second = threading.Thread(target=send), threading.Thread(target=send)
    first.start()
    eventually(lambda: server.traces() == ["begin x"])
    second.start()
    eventually(lambda: server.metric("spoke_tasks_joined_total") == joined + 1)
    server.open_gate()
    first.join()
    second.join()
    send()
    assert [answer[x].outcome for answer in answers] == [TaskOutcome.DONE] * 3
    assert server.traces() == ["begin x", "end x"]
    assert server.metric("spoke_tasks_recalled_total") == recalled + 1


def test_a_sender_that_goes_away_leaves_its_task_running_once(server: Server, x: str) -> None:
    with plain_http.stream(
        "POST",
        f"{server.url}{messages.PATH}",
        content=messages.task_line(gated(x, "agated")),
        headers={"content-type": messages.NDJSON, "authorization": f"Bearer {KEY}"},
    ):
        eventually(lambda: server.traces() == ["begin x"])
    server.open_gate()
    assert server.acknowledged(gated(x, "agated"))[x].outcome is TaskOutcome.DONE
    assert server.traces() == ["begin x", "end x"]


def test_a_failure_is_remembered_for_its_attempt_and_run_again_for_the_next(server: Server, x: str) -> None:
    for attempt, outcome in [
        (1, TaskOutcome.FAILED),
        (1, TaskOutcome.FAILED),
        (2, TaskOutcome.FAILED),
        (3, TaskOutcome.FAILED_FOR_GOOD),
    ]:
        ack = server.acknowledged(Task(x, "raises", "null", attempt))[x]
        assert (ack.outcome, ack.cause, ack.detail) == (outcome, "TaskError", "ValueError")
    assert server.traces() == ["attempt 1", "attempt 2", "attempt 3"]


def test_a_full_queue_answers_429_and_hands_back_what_has_no_room(start_server: StartServer) -> None:
    server = start_server(queue=3, concurrency=1)
    answers: dict[str | None, Acknowledgement] = {}
    again_answers: dict[str | None, Acknowledgement] = {}
    batch = [gated(f"s{number}") for number in range(5)]
    sending = threading.Thread(target=lambda: answers.update(server.acknowledged(*batch)))
    sending.start()
    eventually(lambda: server.metric("spoke_tasks_unfinished") == 3)
    refused = server.post(messages.task_line(Task("more", "noop", "1")))
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    again = threading.Thread(target=lambda: again_answers.update(server.acknowledged(gated("s0"))))
    again.start()  # what is here already needs no room
    eventually(lambda: server.metric("spoke_tasks_joined_total") == 1)
    server.open_gate()
    sending.join()
    again.join()
    assert again_answers["s0"].outcome is TaskOutcome.DONE
    outcomes = [answers[f"s{number}"].outcome for number in range(5)]
    assert outcomes == [TaskOutcome.DONE] * 3 + [TaskOutcome.RETURNED] * 2
    assert answers["s4"].cause == TaskCause.FULL


def test_each_bad_entry_gets_an_answer_and_the_good_ones_run(start_server: StartServer) -> None:
    server = start_server()
    good = [Task(f"good-{number}", "mark", str(number)) for number in range(3)]
    largest = Task("largest", "noop", f'"{"x" * (TASK_LIMIT_BYTES - 2)}"')
    assert len(largest.payload) == TASK_LIMIT_BYTES
    bad = {
        "unknown": (Task("unknown", "nobody_knows", "1"), TaskCause.UNKNOWN_TASK),
        "invalid": (Task("invalid", "numbered", '{"number": "secret payload value"}'), TaskCause.INVALID_PAYLOAD),
        "not-json": (Task("not-json", "mark", "{"), TaskCause.INVALID_PAYLOAD),
        "deep": (Task("deep", "mark", "[" * 50_000 + "]" * 50_000), TaskCause.INVALID_PAYLOAD),
        "large": (Task("large", "mark", f'"{"x" * (TASK_LIMIT_BYTES - 1)}"'), TaskCause.PAYLOAD_TOO_LARGE),
        "nameless": (Task("nameless", "", "1"), TaskCause.MALFORMED_TASK),
    }
    lines = [messages.task_line(task) for task, _ in bad.values()]
    mixed = [*lines[:4], messages.task_line(good[0]), b"{malformed\n", *lines[4:], messages.task_line(good[1])]
    body = b"".join([*mixed, b"[" * 100_000 + b"\n", messages.task_line(good[2]), messages.task_line(largest)])
    response = server.post(body)
    acks = [ack for line in response.content.splitlines() if (ack := messages.parse_acknowledgement(line))]
    by_id = {ack.id: ack for ack in acks}
    assert {name: by_id[name].cause for name in bad} == {name: cause for name, (_, cause) in bad.items()}
    assert all(by_id[name].outcome is TaskOutcome.FAILED_FOR_GOOD for name in bad)
    nameless = sorted(ack.detail for ack in acks if ack.id is None)
    assert nameless == ["entry 5 isn't JSON", "entry 9 isn't JSON"]
    assert all(by_id[task.id].outcome is TaskOutcome.DONE for task in [*good, largest])
    assert sorted(server.traces()) == ["0", "1", "2"]
    assert "secret payload value" not in response.text
    assert "secret payload value" not in server.log.read_text()
    causes = (TaskCause.UNKNOWN_TASK, TaskCause.PAYLOAD_TOO_LARGE, TaskCause.MALFORMED_TASK)
    counted = {cause: server.metric(f'spoke_tasks_refused_total{{cause="{cause}"}}') for cause in causes}
    assert counted == dict(zip(causes, (1, 1, 3), strict=True)), "an alert sees what no run of a task does"
    assert server.ready()


def test_one_id_with_two_payloads_is_refused_while_it_runs_and_afterwards(server: Server, x: str) -> None:
    server.open_gate()
    both = server.post(messages.task_line(gated(x)) + messages.task_line(Task(x, "mark", '"other"')))
    causes = {messages.parse_acknowledgement(line).cause for line in both.content.splitlines() if line}  # type: ignore[union-attr]
    assert causes == {"", "IdReused"}
    assert server.acknowledged(Task(x, "mark", '"other"'))[x].cause == TaskCause.ID_REUSED
    assert server.traces() == ["begin x", "end x"]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", messages.JSON, 400),
        (b'{"tasks": 1}', messages.JSON, 400),
        (b'{"tasks": []}', messages.JSON, 400),
        (b"[" * 100_000, messages.JSON, 400),
        (b"\n\n", messages.NDJSON, 400),
        (b"{}", "text/plain", 415),
        (b"1\n" * (messages.BATCH_LIMIT + 1), messages.NDJSON, 413),
        (b" " * (messages.BODY_LIMIT_BYTES + 1), messages.NDJSON, 413),
    ],
)
def test_a_request_that_is_no_batch_gets_a_clear_status(
    server: Server, body: bytes, content_type: str, status: int
) -> None:
    response = server.post(body, content_type)
    assert response.status_code == status
    assert 10 < len(response.text) < 200
    # One that was read to its end is answered at once; the server waits for the rest of one that was not, and hangs up.
    assert (response.headers.get("connection") == "close") == (len(body) > messages.BODY_LIMIT_BYTES)
    assert server.ready()


def test_json_written_by_hand_is_taken(server: Server, x: str) -> None:
    body = {"tasks": [{"id": x, "name": "numbered", "payload": {"number": 7}, "a newer release's field": 1}]}
    response = server.post(json.dumps(body).encode(), "application/json; charset=utf-8")
    assert response.json() == {"id": x, "outcome": "done"}
    assert server.traces() == ["7"]


def test_readiness_fails_while_it_stops_and_health_does_not_and_each_line_of_a_task_has_its_id(
    start_server: StartServer,
) -> None:
    server = start_server(grace_seconds=120, SPOKE_LOG_FORMAT="json")
    server.acknowledged(Task("t-1", "raises", "null", attempt=1))
    sending = threading.Thread(target=lambda: server.acknowledged(gated("x")))
    sending.start()
    eventually(lambda: server.traces()[1:] == ["begin x"])
    assert server.ready()
    server.terminate()
    eventually(lambda: not server.ready())
    assert server.get("/healthz").status_code == 200
    late = server.post(messages.task_line(Task("late", "mark", "1")))
    assert late.status_code == 503
    assert "retry-after" in late.headers
    server.open_gate()
    sending.join()
    assert server.stopped() == 0
    assert server.traces()[1:] == ["begin x", "end x"]
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    of_task = [line for line in lines if "t-1" in line["message"] or "ValueError" in line.get("exception", "")]
    assert of_task, lines
    assert {(line.get("task_id"), line.get("task")) for line in of_task} == {("t-1", "raises")}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"SPOKE_TASKS_KEY": "0123456789abcdef0123456789abcde"}, "openssl rand -hex 32"),
        ({"SPOKE_TASKS_HOST": "192.0.2.1"}, "SPOKE_TASKS_HOST"),
    ],
)
def test_a_server_that_is_half_configured_refuses_to_start(tmp_path: Path, changed: dict[str, str], named: str) -> None:
    settings = environment(tmp_path / "trace", host="127.0.0.1", port=free_port()) | changed
    done = completed("tasks", [COMMAND, "tasks"], env=settings, timeout=patient(120))
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert os.environ.get("SPOKE_TASKS_KEY") is None


def test_a_server_answers_at_every_address_of_both_families(tmp_path: Path) -> None:
    port = free_port()
    with Program("tasks", [COMMAND, "tasks"], env=environment(tmp_path / "trace", port=port)) as server:
        for host in loopbacks():
            url = f"http://{host}:{port}/healthz"
            eventually(lambda url=url: answers(url))
        server.terminate()
    assert server.returncode == 0


def answers(url: str) -> bool:
    try:
        return plain_http.get(url).is_success
    except httpx.ConnectError:
        return False


def test_a_server_that_is_told_to_stop_while_it_starts_ends_by_its_own_handler(tmp_path: Path) -> None:
    """A container's first process is not killed by a signal that it doesn't handle."""
    script = "import threading; print('importing', flush=True); threading.Event().wait()"
    (tmp_path / "slow_application.py").write_text(script)
    settings = environment(tmp_path / "trace", port=free_port(), host="127.0.0.1")
    settings |= {"SPOKE_APP": "slow_application:registry", "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([COMMAND, "tasks"], env=settings, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "importing\n"
        server.terminate()
    assert server.returncode == 143


def test_a_port_that_is_taken_is_named(server: Server, tmp_path: Path) -> None:
    settings = environment(tmp_path / "trace", host="127.0.0.1", port=server.port)
    done = completed("tasks", [COMMAND, "tasks"], env=settings, timeout=patient(120))
    assert done.returncode == 1
    assert "SPOKE_TASKS_PORT" in done.stderr
