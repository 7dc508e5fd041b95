"""Tasks that do what they must not: a clear answer for each, and nobody else is affected."""

from __future__ import annotations

import threading

import pytest
from tests import plain_http
from tests.integration.tasks.conftest import MakeDispatcher, StartServer
from tests.integration.tasks.support.servers import KEY
from tests.waiting import eventually, patient, stays

from spoke_jobs.tasks.protocol import encoding, messages
from spoke_jobs.tasks.protocol.messages import Acknowledgement, Task, TaskOutcome


def test_each_bad_task_of_a_batch_gets_its_answer_and_the_others_run(start_server: StartServer) -> None:
    server = start_server()
    bad = {
        "raises": Task("raises", "raises", "1", 3),
        "exits": Task("exits", "exits", "1", 3),
        "aexits": Task("aexits", "aexits", "1", 3),
        "recurses": Task("recurses", "recurses", "1"),
        "hangs": Task("hangs", "hangs", "1"),
    }
    good = [Task(f"good-{number}", "mark", str(number)) for number in range(10)]
    acks = server.acknowledged(*good[:5], Task("leaks", "leaks", "1"), *bad.values(), *good[5:])
    assert {name: (acks[name].outcome, acks[name].cause) for name in bad} == {
        "raises": (TaskOutcome.FAILED_FOR_GOOD, "TaskError"),
        "exits": (TaskOutcome.FAILED_FOR_GOOD, "TaskExited"),
        "aexits": (TaskOutcome.FAILED_FOR_GOOD, "TaskExited"),
        "recurses": (TaskOutcome.FAILED_FOR_GOOD, "TaskError"),
        "hangs": (TaskOutcome.FAILED_FOR_GOOD, "Timeout"),
    }
    assert all(acks[task.id].outcome is TaskOutcome.DONE for task in [*good, Task("leaks", "", "")])
    assert (server.metric("spoke_tasks_slots_hung"), server.metric("spoke_tasks_timed_out_total")) == (1, 1)
    assert "tasks_app.py" in server.log.read_text().partition("it is at ")[2], "where it hangs is said"
    server.terminate()
    assert server.stopped() == 0, "threads that were left behind keep nobody"


def test_a_slow_task_delays_no_other_s_acknowledgement(start_server: StartServer) -> None:
    """One in a thread, one on the loop, and one that blocks the loop: all others of the batch are told meanwhile."""
    server = start_server(concurrency=3)
    slow = [Task("slow", "gated", '"s"'), Task("ablocks", "ablocks", "1")]
    quick = [Task(f"quick-{number}", "noop", "1") for number in range(200)]
    told: list[Acknowledgement] = []
    with plain_http.stream(
        "POST",
        f"{server.url}{messages.PATH}",
        content=b"".join(encoding.task_line(task) for task in [*slow, *quick]),
        headers={"content-type": messages.NDJSON, "authorization": f"Bearer {KEY}"},
        timeout=patient(60),
    ) as response:
        for line in response.iter_lines():
            told += [ack] if (ack := encoding.parse_acknowledgement(line.encode())) else []
            if len(told) == len(quick):
                assert {ack.id for ack in told} == {task.id for task in quick}
                assert server.ready()
                server.open_gate()
    assert {ack.id for ack in told[len(quick) :]} == {"slow", "ablocks"}
    assert {ack.outcome for ack in told} == {TaskOutcome.DONE}


def test_who_blocks_the_loop_is_timed_out_and_who_waits_for_it_is_given_back(start_server: StartServer) -> None:
    server = start_server()
    acks = server.acknowledged(*(Task(f"n{n}", "nods", "1") for n in range(3)), Task("guilty", "holds_up", "1"))
    assert acks["guilty"].cause == "Timeout"
    assert {(acks[f"n{n}"].outcome, acks[f"n{n}"].cause) for n in range(3)} == {(TaskOutcome.RETURNED, "HeldUp")}


def test_an_exit_within_the_loop_leaves_the_loop_at_work(start_server: StartServer) -> None:
    server = start_server()
    acks = server.acknowledged(Task("a", "child_exits", "1"), *(Task(f"n{n}", "amark", str(n)) for n in range(5)))
    assert {ack.outcome for ack in acks.values()} == {TaskOutcome.DONE}
    assert server.acknowledged(Task("later", "amark", "9"))["later"].outcome is TaskOutcome.DONE
    assert "SystemExit" in server.log.read_text()


@pytest.mark.parametrize(("name", "others"), [("forks", "nap"), ("aforks", "amark")])
def test_a_copy_that_a_task_forked_serves_nobody(start_server: StartServer, name: str, others: str) -> None:
    server = start_server(concurrency=1)
    acks = server.acknowledged(Task("f", name, "1"), *(Task(f"n{n}", others, str(n)) for n in range(20)))
    assert {ack.outcome for ack in acks.values()} == {TaskOutcome.DONE}
    assert sorted(server.traces()) == sorted([*map(str, range(20)), "the copy has ended"]), "each once"


def test_a_replica_whose_slots_hang_hands_back_and_restarts(
    start_server: StartServer, make_dispatcher: MakeDispatcher
) -> None:
    server = start_server(concurrency=2, hung_seconds=0.5)
    answers: dict[str | None, Acknowledgement] = {}
    batch = [Task("h1", "hangs", "1"), Task("h2", "hangs", "1"), *(Task(f"w{n}", "mark", str(n)) for n in range(20))]
    sending = threading.Thread(target=lambda: answers.update(server.acknowledged(*batch)))
    sending.start()
    assert server.stopped() == 75
    sending.join()
    assert [answers[name].cause for name in ("h1", "h2")] == ["Timeout", "Timeout"]
    assert {(answers[f"w{n}"].outcome, answers[f"w{n}"].cause) for n in range(20)} == {
        (TaskOutcome.RETURNED, "Draining")
    }
    assert server.traces() == ["hangs", "hangs"]
    assert "2 tasks hang beyond their timeout" in server.log.read_text()


def test_a_replica_that_is_told_to_stop_while_it_drains_to_restart_finishes_what_it_runs(
    start_server: StartServer,
) -> None:
    server = start_server(concurrency=2, grace_seconds=120)
    answers: dict[str | None, Acknowledgement] = {}
    batch = [Task("g", "gated", '"g"'), Task("h", "hangs", "1")]
    sending = threading.Thread(target=lambda: answers.update(server.acknowledged(*batch)))
    sending.start()
    eventually(lambda: "drains and restarts" in server.log.read_text())
    server.terminate()
    assert stays(lambda: server.get("/healthz").status_code == 200, 1.0)
    server.open_gate()
    sending.join()
    assert answers["g"].outcome is TaskOutcome.DONE
    assert server.stopped() == 0, "it is not to be started anew"
