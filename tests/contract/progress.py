"""The progress of a job, for whoever has its token, on a ledger: JSON and a stream of events."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import event
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job
from tests.waiting import eventually_async, patient

from spoke_jobs.contract.progress_token import ProgressToken
from spoke_jobs.ledger.reading.progress_queries import reported_progress
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure, JobRequest, Progress
from spoke_jobs.web import progress, progress_app, progress_reads
from spoke_jobs.web.progress_app import ProgressApp

KEY, OTHER = "k" * 32, "o" * 32
HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202egnp.exe\n\nevent: gone\ndata: 1\n\n\"'&"
UNKNOWN = {"detail": "There is no such progress, or no longer."}
Serve = Callable[..., ProgressApp]


def report(ledger: SqlLedger, claim: Claim, percent: int, message: str = "") -> None:
    """Write what a running job reports."""
    ledger.heartbeat(claim.token, LEASE, Progress(percent, message))


@dataclass(frozen=True)
class Following:
    """A stream that a browser reads."""

    status: int
    headers: dict[str, str]
    _chunks: asyncio.Queue[bytes | None]

    async def next(self) -> tuple[str, Any]:
        """Return the next event's type and data; ("end", None) at the end of the stream."""
        while True:
            async with asyncio.timeout(patient(30)):
                chunk = await self._chunks.get()
            if chunk is None:
                return "end", None
            if chunk == progress_app.BEGIN:
                continue
            kind, data, *rest = chunk.decode().split("\n")
            assert rest == ["", ""], "one event has one line of data"
            return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@asynccontextmanager
async def following(app: ProgressApp, path: str) -> AsyncIterator[Following]:
    """Open a stream as a server does. Its client disconnects at the end of the block."""
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
    started: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    gone = asyncio.Event()
    requested = False

    async def receive() -> dict[str, Any]:
        nonlocal requested
        if not requested:
            requested = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            started.set_result(message)
        elif message["body"]:
            chunks.put_nowait(message["body"])
        elif not message.get("more_body"):
            chunks.put_nowait(None)

    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": b"", "headers": []}
    served = asyncio.create_task(app(scope, receive, send))
    async with asyncio.timeout(patient(30)):
        start = await started
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    try:
        yield Following(start["status"], headers, chunks)
    finally:
        gone.set()
        async with asyncio.timeout(patient(30)):
            await served


class ProgressContract:
    """What the endpoints do, on any database. The concrete class has a fixture ``ledger_url``."""

    @pytest.fixture(autouse=True)
    def quickly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress_reads, "FRESH_SECONDS", 0.0)
        monkeypatch.setattr(progress_app, "LOOK_SECONDS", 0.01)

    @pytest.fixture
    def ledger(self, ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(ledger_url)

    @pytest.fixture
    def serve(self, ledger_url: str) -> Iterator[Serve]:
        made: list[ProgressApp] = []

        def serve(**options: Any) -> ProgressApp:
            made.append(progress(**({"key": KEY, "database": ledger_url} | options)))
            return made[-1]

        yield serve
        for each in made:
            each.close()

    async def get(self, app: ProgressApp, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="https://app.test") as client:
            return await client.request(method, path, headers=headers)

    async def shown(self, app: ProgressApp, job: JobRequest) -> Any:
        answer = await self.get(app, f"/{job.progress_token(key=KEY)}")
        assert answer.status_code == 200
        return answer.json()

    def claimed(self, ledger: SqlLedger) -> Claim:
        claim = claim_one(ledger, "legacy", ["report"], "w", LEASE)
        assert claim is not None
        return claim

    async def test_a_job_is_followed_to_its_success(self, ledger: SqlLedger, serve: Serve) -> None:
        app = serve(messages=True)
        job = ledger.insert(new_job())
        waiting = {"state": "waiting", "percent": 0, "message": "", "ended": False}
        assert await self.shown(app, job) == waiting
        claim = self.claimed(ledger)
        assert await self.shown(app, job) == waiting | {"state": "running"}
        report(ledger, claim, 40, "400 of 1,000 rows")
        shown = {"state": "running", "percent": 40, "message": "400 of 1,000 rows", "ended": False}
        assert await self.shown(app, job) == shown
        ledger.succeed(None, claim.token, {"secret": "result"}, Progress(90, "all rows"))
        shown = {"state": "succeeded", "percent": 100, "message": "all rows", "ended": True}
        assert await self.shown(app, job) == shown

    async def test_a_job_that_is_tried_again_waits_and_says_nothing_of_the_failure(
        self, ledger: SqlLedger, serve: Serve
    ) -> None:
        job = ledger.insert(new_job())
        claim = self.claimed(ledger)
        report(ledger, claim, 40, "a text")
        ledger.fail(claim.token, Failure("JobError", "KeyError: 'a value'", "KeyError"), decide=True)
        shown = {"state": "waiting", "percent": 0, "message": "", "ended": False}
        assert await self.shown(serve(messages=True), job) == shown

    async def test_a_row_that_other_code_wrote_is_shown_within_bounds(self, ledger: SqlLedger, serve: Serve) -> None:
        app = serve(messages=True)
        job = ledger.insert(new_job())
        report(ledger, self.claimed(ledger), 4000, "m" * 5000)
        shown = await self.shown(app, job)
        assert shown["percent"] == 100
        assert shown["message"] == "m" * 200

    async def test_each_change_is_an_event_and_the_end_closes_the_stream(self, ledger: SqlLedger, serve: Serve) -> None:
        app = serve(messages=True)
        job = ledger.insert(new_job())
        async with following(app, f"/{job.progress_token(key=KEY)}/events") as stream:
            assert stream.status == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["cache-control"] == "no-store"
            waiting = {"state": "waiting", "percent": 0, "message": "", "ended": False}
            assert await stream.next() == ("progress", waiting)
            claim = self.claimed(ledger)
            assert await stream.next() == ("progress", waiting | {"state": "running"})
            report(ledger, claim, 40, "a text")
            shown = {"state": "running", "percent": 40, "message": "a text", "ended": False}
            assert await stream.next() == ("progress", shown)
            ledger.succeed(None, claim.token, None)
            shown = {"state": "succeeded", "percent": 100, "message": "a text", "ended": True}
            assert await stream.next() == ("progress", shown)
            assert await stream.next() == ("end", None)

    async def test_a_stream_ends_when_the_row_is_gone(self, ledger: SqlLedger, serve: Serve) -> None:
        job = ledger.insert(new_job())
        async with following(serve(), f"/{job.progress_token(key=KEY)}/events") as stream:
            assert (await stream.next())[0] == "progress"
            with ledger.engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM job_request")
            assert await stream.next() == ("gone", 1)
            assert await stream.next() == ("end", None)

    async def test_the_jobs_that_are_followed_share_a_statement(
        self, ledger: SqlLedger, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = serve()
        first, second, third = (ledger.insert(new_job()) for _ in range(3))
        counts: list[int] = []

        def counted(engine: Any, ids: Any) -> Any:
            counts.append(len(ids))
            return reported_progress(engine, ids)

        monkeypatch.setattr(progress_reads, "reported_progress", counted)
        with app._reads.following(first.id), app._reads.following(second.id):
            await self.shown(app, third)
        await self.shown(app, third)
        assert counts == [3, 1]

    async def test_a_database_that_is_away_is_asked_again_later(
        self, ledger: SqlLedger, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = serve()
        path = f"/{ledger.insert(new_job()).progress_token(key=KEY)}"
        with ledger.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE job_request RENAME TO away")
        for each in (path, f"{path}/events"):
            answer = await self.get(app, each)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.json() == {"detail": "Ask again in a moment."}
        with ledger.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO job_request")
        async with following(app, f"{path}/events") as stream:
            assert (await stream.next())[0] == "progress"
            with ledger.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE job_request RENAME TO away")
            await eventually_async(lambda: app._reads._outage.lasts)
            with ledger.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE away RENAME TO job_request")
            self.claimed(ledger)
            assert (await stream.next())[1]["state"] == "running", "the stream goes on"


class ProgressOnSqlite(ProgressContract):
    """What depends on no database."""

    async def test_texts_of_the_job_are_shown_only_if_that_is_wanted(self, ledger: SqlLedger, serve: Serve) -> None:
        job = ledger.insert(new_job())
        report(ledger, self.claimed(ledger), 40, "a text")
        assert (await self.shown(serve(), job))["message"] == ""
        assert (await self.shown(serve(messages=True), job))["message"] == "a text"

    @pytest.mark.parametrize(("cause", "shown"), [("Discarded", "the reason"), ("JobError", ""), ("Timeout", "")])
    async def test_a_failure_says_why_only_if_the_job_wrote_that_for_people(
        self, ledger: SqlLedger, serve: Serve, cause: str, shown: str
    ) -> None:
        job = ledger.insert(new_job())
        failure = Failure(cause, "the reason", "app.SecretError", "the last line", for_good=True)
        ledger.fail(self.claimed(ledger).token, failure, decide=True)
        failed = {"state": "failed", "percent": None, "message": "", "ended": True}
        assert await self.shown(serve(), job) == failed
        assert await self.shown(serve(messages=True), job) == failed | {"message": shown}

    async def test_a_blocked_job_waits(self, ledger: SqlLedger, serve: Serve) -> None:
        first = ledger.insert(new_job())
        blocked = ledger.insert(new_job(after=(first.id,)))
        assert (await self.shown(serve(), blocked))["state"] == "waiting"

    async def test_a_token_holds_for_later_runs_and_not_for_earlier_ones(self, ledger: SqlLedger, serve: Serve) -> None:
        job = ledger.insert(new_job())
        ledger.fail(self.claimed(ledger).token, Failure("JobError", for_good=True), decide=True)
        ledger.retry(job.id)
        assert (await self.shown(serve(), job))["state"] == "waiting"
        later = ProgressToken(job.id, 3, int(time.time()) + 60).signed(KEY)
        assert (await self.get(serve(), f"/{later}")).status_code == 404

    async def test_every_token_that_shows_nothing_has_the_same_answer(self, ledger: SqlLedger, serve: Serve) -> None:
        app = serve()
        job = ledger.insert(new_job())
        good = job.progress_token(key=KEY)
        soon = int(time.time()) + 60
        assert (await self.get(app, f"/{good}")).status_code == 200
        refused = {
            "expired": ProgressToken(job.id, 1, int(time.time()) - 1).signed(KEY),
            "of another key": job.progress_token(key=OTHER),
            "of no row": ProgressToken(job.id + 1, 1, soon).signed(KEY),
            "of an id that is too large": ProgressToken(2**63, 1, soon).signed(KEY),
            "forged": f"{good[:-1]}{'0' if good[-1] != '0' else '1'}",
            "of another job": good.replace(f"{job.id}.", f"{job.id + 1}.", 1),
            "no token": "nonsense",
            "hostile": "%00%ff%0d%0a<script>",
        }
        answers = {
            (path, why): await self.get(app, f"/{token}{path}")
            for why, token in refused.items()
            for path in ("", "/events")
        }
        for why, answer in answers.items():
            assert answer.status_code == 404, why
            assert answer.json() == UNKNOWN, why
        assert len({str(sorted(answer.headers.items())) for answer in answers.values()}) == 1

    async def test_both_keys_are_accepted_while_one_replaces_the_other(self, ledger: SqlLedger, serve: Serve) -> None:
        job = ledger.insert(new_job())
        app = serve(key=f"{OTHER} {KEY}")
        for key, status in ((KEY, 200), (OTHER, 200), ("x" * 32, 404)):
            assert (await self.get(app, f"/{job.progress_token(key=key)}")).status_code == status

    async def test_hostile_texts_are_inert(self, ledger: SqlLedger, serve: Serve) -> None:
        app = serve(messages=True)
        job = ledger.insert(new_job())
        report(ledger, self.claimed(ledger), 40, HOSTILE)
        answer = await self.get(app, f"/{job.progress_token(key=KEY)}")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        message = answer.json()["message"]
        assert message.startswith(r"<img src=x onerror=alert(1)>\x1b[31m\u202egnp.exe\n\nevent: gone")
        async with following(app, f"/{job.progress_token(key=KEY)}/events") as stream:
            assert await stream.next() == ("progress", answer.json())

    async def test_a_stream_ends_when_its_token_expires(
        self, ledger: SqlLedger, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = ledger.insert(new_job())
        async with following(serve(), f"/{job.progress_token(key=KEY, valid_for=3600)}/events") as stream:
            assert (await stream.next())[0] == "progress"
            later = time.time() + 3602
            monkeypatch.setattr("spoke_jobs.web.progress_app.time.time", lambda: later)
            assert await stream.next() == ("gone", 1)
            assert await stream.next() == ("end", None)

    async def test_a_stream_lasts_for_a_bounded_time_and_says_that_it_is_alive(
        self, ledger: SqlLedger, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress_app, "ALIVE_SECONDS", 0.02)
        monkeypatch.setattr(progress_app, "STREAM_SECONDS", 0.5)
        job = ledger.insert(new_job())
        async with following(serve(), f"/{job.progress_token(key=KEY)}/events") as stream:
            kinds: list[str] = []
            while not kinds or kinds[-1] != "end":
                kinds.append((await stream.next())[0])
        assert kinds[0] == "progress"
        assert set(kinds[1:-1]) == {"alive"}

    async def test_there_are_so_many_streams_at_most(
        self, ledger: SqlLedger, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress_app, "MOST_STREAMS_OF_A_JOB", 2)
        app = serve(most_streams=3)
        one, other = (f"/{ledger.insert(new_job()).progress_token(key=KEY)}" for _ in range(2))
        async with following(app, f"{one}/events"), following(app, f"{one}/events"):
            refused = await self.get(app, f"{one}/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            async with following(app, f"{other}/events") as third:
                assert third.status == 200, "the streams of one job take no room from others"
                assert (await self.get(app, f"{other}/events")).status_code == 503
                assert (await self.get(app, one)).status_code == 200, "without a stream one can still ask"
        async with following(app, f"{one}/events") as again:
            assert again.status == 200

    async def test_all_streams_end_with_the_process(self, ledger: SqlLedger, serve: Serve) -> None:
        app = serve()
        path = f"/{ledger.insert(new_job()).progress_token(key=KEY)}/events"
        async with following(app, path) as stream:
            assert (await stream.next())[0] == "progress"
            app.end_streams()
            assert await stream.next() == ("end", None)
            assert (await self.get(app, path)).status_code == 503

    async def test_viewers_share_what_is_read(
        self, ledger: SqlLedger, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress_reads, "FRESH_SECONDS", patient(600))
        app = serve()
        statements: list[str] = []
        event.listen(app._reads._engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        path = f"/{ledger.insert(new_job()).progress_token(key=KEY)}"
        answers = await asyncio.gather(*(self.get(app, path) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        async with following(app, f"{path}/events") as one, following(app, f"{path}/events") as another:
            assert await one.next() == await another.next()
        assert len([each for each in statements if "job_request" in each]) == 1
        assert "payload" not in "".join(statements)

    async def test_those_who_ask_while_a_statement_runs_share_the_next_one(
        self, ledger: SqlLedger, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress_reads, "FRESH_SECONDS", patient(600))
        app = serve()
        paths = [f"/{ledger.insert(new_job()).progress_token(key=KEY)}" for _ in range(5)]
        counts: list[int] = []
        goes_on = threading.Event()

        def held(engine: Any, ids: Any) -> Any:
            counts.append(len(ids))
            assert goes_on.wait(patient(60))
            return reported_progress(engine, ids)

        monkeypatch.setattr(progress_reads, "reported_progress", held)
        asked = [asyncio.create_task(self.get(app, paths[0]))]
        await eventually_async(lambda: counts, "the first statement runs")
        asked += [asyncio.create_task(self.get(app, path)) for path in paths[1:]]
        await eventually_async(lambda: len(app._reads._wanted) == 4, "the others wait")
        goes_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        assert counts == [1, 4]
