"""What the jobs' pods of these tests run, beside the texting example's own jobs and tasks. SPOKE_APP names it."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Column, DateTime, Engine, Integer, MetaData, NullPool, Table, Text, func, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, OperationalError

import texting.jobs  # noqa: F401 (declares the example's)
from spoke_jobs import JobContext, JobData, RetryPolicy, TaskContext, dispatch_job, job, task
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.ledger.engine import create_engine

metadata = MetaData()
effect = Table(
    "e2e_effect",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, nullable=False),
    Column("pod", Text, nullable=False),
)
"""A row for each result that was committed."""
start = Table(
    "e2e_start",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, nullable=False),
    Column("at", DateTime(timezone=True), server_default=func.clock_timestamp(), nullable=False),
)
"""A row for each call of a job's function, written first."""
gate = Table("e2e_gate", metadata, Column("name", Text, primary_key=True))
"""What jobs wait for."""
task_run = Table(
    "e2e_task_run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("pod", Text, nullable=False),
    Column("ran_at", DateTime(timezone=True), server_default=func.now(), nullable=False),
)
"""A row for each run of a task that came to its end."""


MARKER = "planted-4d1f0c"
"""What is to be seen nowhere but in the ledger."""


TOLD = -1
"""The number of those runs of tasks that were told it."""


class Told(BaseModel):
    """A secret, and how to end."""

    secret: str
    fails: bool = False
    lasts: bool = False
    """Until it is told to end."""


class Slow(BaseModel):
    """How long to take."""

    seconds: float = 5.0


@job("e2e_echo")
def echo(_ctx: JobContext, payload: Any) -> Any:
    """Give the payload back."""
    return payload


@job("e2e_dies_in_a_worker")
def dies_in_a_worker(_ctx: JobContext) -> str:
    """End in a worker as the kernel ends a process that takes all memory; succeed in a pod."""
    if "SPOKE_REQUEST_UID" not in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return "in a pod"


@job("e2e_collects_garbage")
def collects_garbage(_ctx: JobContext, _payload: Any) -> bool:
    """Whether what it leaves in circles is collected: it isn't while the pod starts."""
    return gc.isenabled()


class Connect(BaseModel):
    """Whom to try, and who is expected to be reached."""

    targets: dict[str, tuple[str, int]]
    expected: list[str]


@job("e2e_connects", payload=Connect)
def connects(_ctx: JobContext, payload: Connect) -> list[str]:
    """Say who is reached from a job's pod."""
    import connecting  # type: ignore[import-not-found]  # beside this module in the image

    found: list[str] = connecting.reached(payload.targets, payload.expected)
    return found


@job("e2e_listens")
def listens(ctx: JobContext, payload: int) -> None:
    """Take connections at that port."""
    with socket.create_server(("", payload)):
        ctx.progress(1, "listens")
        while not ctx.cancelled:
            time.sleep(0.1)


@job("e2e_raise", retry=RetryPolicy(backoff_seconds=0.2))
def fail(_ctx: JobContext, payload: Any) -> None:
    """Fail, with the payload in the message."""
    raise ValueError(f"as it was told to: {payload}")


@job("e2e_exits", retry=RetryPolicy(budget={CauseClass.ERROR: 1}))
def leave(_ctx: JobContext, payload: int) -> None:
    """Call sys.exit, as a script would."""
    sys.exit(payload)


@job("e2e_leaves_a_thread", retry=RetryPolicy(budget={CauseClass.ERROR: 1}))
def leave_a_thread(_ctx: JobContext, _payload: Any) -> None:
    """Fail while a thread that never ends keeps the interpreter from ending by itself."""
    threading.Thread(target=threading.Event().wait).start()
    raise ValueError("the thread stays")


@job("e2e_holds_the_interpreter", retry=RetryPolicy(budget={CauseClass.INFRASTRUCTURE: 1}))
def hold_the_interpreter(_ctx: JobContext, payload: int) -> None:
    """Let no other thread run for so many seconds, heartbeats among them: the lease lapses. Then take long."""
    ctypes.PyDLL(None).sleep(payload)  # unlike CDLL's, its calls keep the interpreter's lock
    time.sleep(120)


class Prints(BaseModel):
    """What to print, and how many attempts of the first run fail."""

    lines: int = 3
    every_seconds: float = 0.2
    failures: int = 0


@job("e2e_prints", payload=Prints, retry=RetryPolicy(backoff_seconds=0.2))
def prints(ctx: JobContext, payload: Prints) -> None:
    """Print line by line; the first attempts fail at their end."""
    for number in range(1, payload.lines + 1):
        print(f"attempt {ctx.attempt}, line {number}", flush=True)
        print(flush=True)  # a line may be empty
        time.sleep(payload.every_seconds)
        ctx.raise_if_cancelled()
    if ctx.job.run == 1 and ctx.attempt <= payload.failures:
        raise ValueError("not yet")


@job("report")
def report(ctx: JobContext, payload: str) -> None:
    """What docs/why.md has as an example; the payload says what becomes of it."""
    if payload == "fails":
        raise ValueError("row 17 has no amount")
    if payload == "needs memory":
        # In one call, which keeps the interpreter to itself: on a busy machine no other thread of the process then says
        # that the lease could not be renewed, while the kernel looks for memory.
        everything = b"x" * 1_000_000_000
        assert everything
    if payload == "is short":
        return
    ctx.progress(42, "page 42 of 100")
    while not ctx.cancelled:
        time.sleep(0.1)
    ctx.raise_if_cancelled()


class Invoice(BaseModel):
    """What this release wants to know of one."""

    number: int


@job("invoice", payload=Invoice)
def invoice(_ctx: JobContext, _payload: Invoice) -> None:
    """Another one, which docs/why.md has dispatched by a release that knows no `number`."""


@job("e2e_slow", payload=Slow, retry=RetryPolicy(backoff_seconds=0.2))
def slow(ctx: JobContext, payload: Slow) -> None:
    """Take a while, then leave a row in the transaction of the result."""
    steps = min(max(int(payload.seconds * 10), 1), 100)
    for step in range(steps):
        ctx.progress(99 * step // steps, f"step {step} of {steps}")
        time.sleep(payload.seconds / steps)
    leave_an_effect(ctx)


@job(
    "e2e_writes_midway",
    payload=Slow,
    retry=RetryPolicy(backoff_seconds=0.2, backoff_max_seconds=2, budget={CauseClass.INFRASTRUCTURE: 20}),
)
def write_midway(ctx: JobContext, payload: Slow) -> None:
    """Write a row midway, which only the commit of the success keeps. Who kills it comes before or after that row."""
    time.sleep(payload.seconds / 2)
    ctx.session.execute(insert(effect).values(job_id=ctx.job.id, pod=os.environ.get("SPOKE_POD", "")))
    time.sleep(payload.seconds / 2)


class Waits(BaseModel):
    """What to wait for: that a gate is open, or (without one) that the database can't be reached."""

    gate: str = ""


@job("e2e_waits", payload=Waits, retry=RetryPolicy(backoff_seconds=0.2))
def wait(ctx: JobContext, payload: Waits) -> None:
    """Wait, and leave a row in the transaction of the result. A later attempt waits for nothing."""
    engine = create_engine(os.environ["SPOKE_DATABASE_URL"], poolclass=NullPool)
    looks = 0
    while ctx.attempt == 1:
        looks += 1
        ctx.progress(min(looks, 99), f"look {looks}")
        try:
            with engine.connect() as connection:
                is_open = connection.scalar(select(gate.c.name).where(gate.c.name == payload.gate)) is not None
        except OperationalError:
            if not payload.gate:
                break
        else:
            if is_open:
                break
        time.sleep(0.5)
    leave_an_effect(ctx)


@job("e2e_starts", retry=RetryPolicy(backoff_seconds=0.2))
def starts(ctx: JobContext, payload: str) -> None:
    """Say that it has started, then wait until a gate is open."""
    with engine().begin() as connection:
        connection.execute(insert(start).values(job_id=ctx.job.id))
    while payload:
        with engine().connect() as connection:
            if connection.scalar(select(gate.c.name).where(gate.c.name == payload)) is not None:
                break
        time.sleep(0.2)


class Meets(BaseModel):
    """Where to meet how many jobs."""

    place: str
    jobs: int


@job("e2e_meets", payload=Meets)
def meet(ctx: JobContext, payload: Meets) -> None:
    """Commit the success at the same moment as the others: each waits until all are about to."""
    with ctx.complete() as session:
        with engine().begin() as connection:
            arrived = postgresql.insert(gate).values(name=f"{payload.place}:{ctx.job.id}")
            connection.execute(arrived.on_conflict_do_nothing())
        here = select(func.count()).where(gate.c.name.startswith(f"{payload.place}:"))
        while True:
            with engine().connect() as connection:
                if (connection.scalar(here) or 0) >= payload.jobs:
                    break
            time.sleep(0.005)
        session.execute(insert(effect).values(job_id=ctx.job.id, pod=os.environ.get("SPOKE_POD", "")))


class Resumes(BaseModel):
    """How many rows to write, and at which of them each attempt stops until its pod is killed."""

    rows: int
    stops: list[int]


@job("e2e_resumes", payload=Resumes, retry=RetryPolicy(backoff_seconds=0.2))
def resume(ctx: JobContext, payload: Resumes) -> int:
    """Write rows, each with a checkpoint. Where it stops, the next row is written and not committed."""
    begun = done = ctx.checkpoint or 0
    while done < payload.rows:
        ctx.session.execute(insert(effect).values(job_id=ctx.job.id, pod=str(done)))
        while ctx.attempt <= len(payload.stops) and done == payload.stops[ctx.attempt - 1]:
            time.sleep(0.1)
        done += 1
        ctx.save(done)
        ctx.session.commit()
    return begun


def leave_an_effect(ctx: JobContext) -> None:
    """Succeed, with a row in the same transaction."""
    pod = os.environ.get("SPOKE_POD", "")
    with ctx.complete({"pod": pod}) as session:
        session.execute(insert(effect).values(job_id=ctx.job.id, pod=pod))


@job("e2e_tells", payload=Told, retry=RetryPolicy(budget={CauseClass.ERROR: 1}))
def tell(ctx: JobContext, payload: Told) -> str:
    """Print the secret, then give it back or fail with it."""
    print(f"output {payload.secret}", flush=True)
    ctx.progress(1, "told")
    while payload.lasts and not ctx.cancelled:
        time.sleep(0.1)
    if payload.fails:
        raise ValueError(f"error {payload.secret}")
    return f"result {payload.secret}"


@job("e2e_tries_statements")
def tries_statements(ctx: JobContext, payload: list[str]) -> list[str]:
    """Return the statements that the database did not refuse for a lack of privileges. Then do what a job may do."""
    allowed = []
    with engine().connect() as connection:
        for statement in payload:
            try:
                connection.exec_driver_sql(statement)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) == "42501":
                    continue
            finally:
                connection.rollback()
            allowed.append(statement)
    ctx.progress(50, "half-way")
    dispatch_job(JobData("e2e_echo", 7), session=ctx.session)
    ctx.session.commit()
    return allowed


@job("e2e_forges")
def forge(ctx: JobContext, payload: str) -> int:
    """Dispatch a job with that PodTemplate, which its type may not use. Return its id."""
    data = JobData("e2e_echo", "forged", pod_template=payload, start_timeout_seconds=5)
    forged = dispatch_job(data, session=ctx.session)
    ctx.session.commit()
    return forged.id


class Message(BaseModel):
    """What a container leaves as its termination message, in Latin-1, and how it ends."""

    text: str
    exit_code: int


@job("e2e_leaves_a_message", payload=Message, retry=RetryPolicy(budget=dict.fromkeys(CauseClass, 1)))
def leave_a_message(_ctx: JobContext, payload: Message) -> None:
    """Write the termination message in place of the library, and end the process at once."""
    Path("/dev/termination-log").write_bytes(payload.text.encode("latin-1"))
    os._exit(payload.exit_code)


@cache
def engine() -> Engine:
    """The tasks' own connections."""
    return create_engine(os.environ["SPOKE_DATABASE_URL"])


@task("e2e_counts")
def counts(_ctx: TaskContext, payload: int) -> None:
    """Take a few milliseconds, then leave a row."""
    time.sleep(0.005)
    with engine().begin() as connection:
        connection.execute(insert(task_run).values(number=payload, pod=os.environ["HOSTNAME"]))


@task("e2e_is_told", payload=Told)
def is_told(_ctx: TaskContext, payload: Told) -> None:
    """Keep the secret, and leave a row."""
    assert payload.secret
    with engine().begin() as connection:
        connection.execute(insert(task_run).values(number=TOLD, pod=os.environ["HOSTNAME"]))
