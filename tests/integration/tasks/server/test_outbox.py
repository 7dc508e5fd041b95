"""Tasks dispatched in a transaction: whoever is killed, all that was committed runs, and its effects count once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.orm import Session
from tests.contract.app import Line, effect, metadata
from tests.integration.tasks.conftest import StartServer
from tests.integration.tasks.support.servers import KEY, environment, started_anew
from tests.integration.tasks.support.stage import CONTRACT_APP, application_environment, left_in_outbox
from tests.ports import free_port
from tests.waiting import eventually

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.outbox.task_outbox import insert_task
from spoke_jobs.ledger.tables import task_outbox
from spoke_jobs.model import TASK_LOSSES
from spoke_jobs.payloads import TASK_LIMIT_BYTES

OUTBOX_APP = CONTRACT_APP | {"SPOKE_APP": "tests.integration.tasks.support.outbox_app:registry"}

DISPATCH = """
import sys
from sqlalchemy import insert
from sqlalchemy.orm import Session
from tests.contract.app import effect, engine
from tests.integration.tasks.support.outbox_app import registry
from spoke_jobs import configure, dispatch_task
from spoke_jobs.registry import Registry
configure(registry=registry)
database = engine(sys.argv[1])
print("begun", flush=True)
for batch in range(0, 1000, 10):
    with Session(database) as session:
        for number in range(batch, batch + 10):
            session.execute(insert(effect).values(text=f"sent {number}"))
            dispatch_task("once", {"text": f"ran {number}"}, session=session)
        session.commit()
"""


@pytest.fixture
def engine(postgres_ledger_url: str) -> Iterator[Engine]:
    made = create_engine(postgres_ledger_url)
    metadata.create_all(made)
    yield made
    made.dispose()


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def texts(engine: Engine, beginning: str) -> list[int]:
    """The numbers of the lines that begin so."""
    with engine.connect() as connection:
        found = connection.scalars(select(effect.c.text).where(effect.c.text.startswith(beginning)))
        return [int(text.rpartition(" ")[2]) for text in found]


def put(engine: Engine, name: str, *lines: str) -> None:
    with engine.begin() as connection:
        for line in lines:
            insert_task(connection, "kubernetes", name, json.dumps({"text": line, "ratio": 0.0}))


def start_dispatcher(engine: Engine, tasks_url: str) -> subprocess.Popen[str]:
    environment = application_environment(tasks_url, url_of(engine))
    command = [sys.executable, "-c", DISPATCH, url_of(engine)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)


def test_a_dispatcher_killed_amid_a_thousand_tasks_loses_none_that_was_committed(
    start_server: StartServer, engine: Engine
) -> None:
    server = start_server(SPOKE_DATABASE_URL=url_of(engine), **OUTBOX_APP)
    with start_dispatcher(engine, server.url) as dispatcher:
        eventually(lambda: len(texts(engine, "sent")) >= 100)
        dispatcher.send_signal(signal.SIGKILL)
    sent = texts(engine, "sent")
    assert 100 <= len(sent) < 1000
    eventually(lambda: not left_in_outbox(engine))
    assert Counter(texts(engine, "ran")) == Counter(sent), "each once, as committed"
    assert left_in_outbox(engine, "failed") == 0


def test_replicas_that_are_killed_have_their_tasks_taken_over_and_effects_count_once(
    start_server: StartServer, engine: Engine
) -> None:
    settings = {"SPOKE_DATABASE_URL": url_of(engine), "SPOKE_LEASE_SECONDS": 2, **OUTBOX_APP}
    put(engine, "held", *(f"ran {number}" for number in range(4)))  # these have begun when their replica is killed
    put(engine, "once", *(f"ran {number}" for number in range(4, 400)))
    first = start_server("first", concurrency=8, **settings)
    second = start_server("second", concurrency=8, **settings)
    eventually(lambda: len(texts(engine, "ran")) >= 50)
    first.kill()
    eventually(lambda: len(texts(engine, "ran")) >= 150)
    second.kill()
    assert left_in_outbox(engine) >= 4
    third = start_server("third", concurrency=8, **settings)
    third.open_gate()
    eventually(lambda: not left_in_outbox(engine))
    assert Counter(texts(engine, "ran")) == Counter(range(400))
    assert third.metric('spoke_tasks_outbox_total{event="taken_over"}') > 0


@pytest.mark.long  # ten starts of a replica
@pytest.mark.timeout(600)
def test_a_task_that_kills_its_replicas_is_given_up_and_costs_no_other(engine: Engine, tmp_path: Path) -> None:
    """Its companions' claims lapse with its own, each time."""
    put(engine, "once", *(f"ran {number}" for number in range(15)))
    put(engine, "kills", "killing")
    put(engine, "once", *(f"ran {number}" for number in range(15, 30)))
    trace = tmp_path / "trace"
    settings = {"SPOKE_DATABASE_URL": url_of(engine), "SPOKE_LEASE_SECONDS": 1, "SPOKE_POLL_SECONDS": 0.2, **OUTBOX_APP}
    with started_anew(environment(trace, port=free_port(), host="127.0.0.1", concurrency=32, **settings)):
        eventually(lambda: left_in_outbox(engine) == 0, within=240)
    assert Counter(texts(engine, "ran")) == Counter(range(30))
    with engine.connect() as connection:
        row = connection.execute(select(task_outbox)).one()
    assert (row.name, row.state, row.cause) == ("kills", "failed", "WorkerLost")
    assert len(trace.read_text().splitlines()) == 10


def test_a_stopping_replica_gives_back_what_has_not_ended(start_server: StartServer, engine: Engine) -> None:
    leased = {"SPOKE_LEASE_SECONDS": 3600}  # longer than anybody waits here for its end
    settings = {"SPOKE_DATABASE_URL": url_of(engine), "grace_seconds": 0, **leased, **OUTBOX_APP}
    first = start_server("first", concurrency=2, **settings)
    put(engine, "held", *(f"held {number}" for number in range(4)))
    eventually(lambda: len(first.traces()) == 2)
    first.terminate()
    assert first.stopped() == 0
    second = start_server("second", concurrency=4, **settings)
    second.open_gate()
    eventually(lambda: not left_in_outbox(engine), "given back, not waited for")
    assert sorted(texts(engine, "held")) == [0, 1, 2, 3]


def test_what_fails_for_good_is_kept_with_its_cause_counted_and_costs_no_other(
    start_server: StartServer, engine: Engine
) -> None:
    put(engine, "held", "ran 0")
    put(engine, "nobody_knows", "ran 1")
    with engine.begin() as connection:
        died, ago = {"losses": TASK_LOSSES}, {"due_at": func.clock_timestamp() - timedelta(hours=2)}
        for name, values in (("held", died), ("nobody_knows", ago)):
            connection.execute(update(task_outbox).where(task_outbox.c.name == name).values(values))
    put(engine, "once", "large " + "x" * TASK_LIMIT_BYTES, "ran 2")
    put(engine, "fails", "ran 3")
    server = start_server(SPOKE_DATABASE_URL=url_of(engine), **OUTBOX_APP)
    eventually(lambda: left_in_outbox(engine) == 0)
    with engine.connect() as connection:
        rows = {row.cause: row for row in connection.execute(select(task_outbox))}
    assert {cause: (row.name, row.attempt) for cause, row in rows.items()} == {
        "WorkerLost": ("held", 1),
        "UnknownTask": ("nobody_knows", 1),
        "PayloadTooLarge": ("once", 1),
        "TaskError": ("fails", 2),
    }
    assert (rows["TaskError"].error_type, rows["TaskError"].token) == ("ValueError", None)
    for cause in ("WorkerLost", "UnknownTask"):
        name = f'spoke_tasks_refused_total{{cause="{cause}"}}'
        eventually(lambda name=name: server.metric(name) == 1, what=name)  # type: ignore[misc]
    eventually(lambda: server.metric('spoke_tasks_outbox_total{event="failed"}') > 0)
    assert server.traces() == ["attempt 1", "attempt 2"]
    assert texts(engine, "ran") == [2]


@pytest.mark.alone
def test_a_commit_wakes_the_replica_before_its_poll(start_server: StartServer, engine: Engine) -> None:
    from tests.integration.tasks.support.outbox_app import registry
    from tests.integration.tasks.support.stage import TasksStage

    server = start_server(SPOKE_DATABASE_URL=url_of(engine), SPOKE_POLL_SECONDS=60, **OUTBOX_APP)
    stage = TasksStage(url_of(engine), server, registry)
    with Session(engine) as session:
        session.execute(insert(effect).values(text="sent 1"))
        stage.runner.dispatch_task("once", Line(text="ran 1"), session=session)
        session.commit()
    eventually(lambda: texts(engine, "ran") == [1], within=30, promised=True)  # half of the poll's period, its maximum
    stage.close()


def test_without_a_session_what_a_killed_dispatcher_still_held_is_lost_and_no_more(start_server: StartServer) -> None:
    """As docs/how-to/tasks.md says: what a server has accepted runs; the rest of the buffer is gone."""
    server = start_server(queue=50, concurrency=1)
    script = f"""
import sys, time
from spoke_jobs.tasks.client.dispatcher import TaskDispatcher
dispatcher = TaskDispatcher({server.url!r}, {KEY!r})
dispatcher.submit("gated", '"gate"')
sys.stdin.readline()
for number in range(1000): dispatcher.submit("mark", str(number))
print("sent", flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dispatcher:
        try:
            assert dispatcher.stdin is not None
            assert dispatcher.stdout is not None
            eventually(lambda: server.traces() == ["begin gate"], what="the gate's being before all others")
            dispatcher.stdin.write("\n")
            dispatcher.stdin.flush()
            assert dispatcher.stdout.readline() == "sent\n"
            eventually(lambda: server.metric("spoke_tasks_unfinished") == 50)
        finally:
            dispatcher.send_signal(signal.SIGKILL)
    server.open_gate()
    eventually(lambda: server.metric("spoke_tasks_unfinished") == 0)
    accepted = server.metric("spoke_tasks_accepted_total")
    ran = [line for line in server.traces() if line.isdigit()]
    assert len(ran) == len(set(ran)) == accepted - 1
    assert len(ran) < 1000
