"""Tasks that do what they must not: a clear answer for each, and nobody else is affected."""

from __future__ import annotations

import threading
from uuid import uuid4

from tests.integration.tasks.conftest import StartServer
from tests.integration.tasks.support.servers import Server
from tests.waiting import eventually, stays

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


def test_an_exit_within_the_loop_leaves_the_loop_at_work(server: Server) -> None:
    names = ["child_exits", *["amark"] * 5]
    acks = server.acknowledged(*(Task(str(uuid4()), name, "1") for name in names))
    acks |= server.acknowledged(Task(str(uuid4()), "amark", "9"))
    assert [ack.outcome for ack in acks.values()] == [TaskOutcome.DONE] * 7
    assert "SystemExit" in server.said()


def test_a_copy_that_a_task_forked_serves_nobody(start_server: StartServer) -> None:
    server = start_server(concurrency=1)
    for fork, others in (("forks", "nap"), ("aforks", "amark")):
        acks = server.acknowledged(
            Task(fork, fork, "1"), *(Task(f"{others}{n}", others, f'"{others} {n}"') for n in range(20))
        )
        assert {ack.outcome for ack in acks.values()} == {TaskOutcome.DONE}
    each_once = [f"{others} {n}" for others in ("nap", "amark") for n in range(20)]
    assert sorted(server.traces()) == sorted([*each_once, *["the copy has ended"] * 2])


def test_a_replica_whose_slots_hang_hands_back_and_restarts(start_server: StartServer) -> None:
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
