"""The commands and the code that the documentation shows work as they are typed, on SQLite in one folder.

All of it runs in this process. What runs until SIGTERM is only parsed. A page's blocks are one session. The names that
a page leaves to the application are in `APPLICATIONS`.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import re
import shlex
import sys
import textwrap
import tomllib
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
import typer
from sqlalchemy import Engine, NullPool
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from tests.commands import run_command
from tests.unit.cli.conftest import fail
from tests.unit.docs.typed_blocks import BLOCKS, IN_A_SESSION, NOT_RUN, ROOT, RUN_BY, run_here

import spoke_jobs
from spoke_jobs import Registry, api, use_runner
from spoke_jobs.cli.command_line import build_program
from spoke_jobs.cli.commands import job_actions
from spoke_jobs.dispatch import current_runner
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.schedules.schedule_rows import declare
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.registry import load_app
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import load_settings
from spoke_jobs.testing.contexts import fake_context

UNTIL_SIGTERM = {"worker", "tasks", "sync", "web", "notify"}
FAILED_JOBS = 42
"""The pages name jobs up to this id."""
AT_MOST = 20
"""A page that dispatches ten thousand jobs dispatches so many here."""
DECLARED = """
from pydantic import BaseModel
import spoke_jobs.registry
from spoke_jobs import Cron

class Account(BaseModel):
    name: str

@spoke_jobs.registry.default.job("sync_contacts", payload=Account)
def sync_contacts(ctx, account): ...

@spoke_jobs.registry.default.job("nightly_report", schedule=Cron("0 3 * * *"))
def nightly_report(ctx): ...
"""
"""The application of the pages' commands."""
APPLICATIONS = {
    "README.md": """
        from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
        class Base(DeclarativeBase): ...
        class Upload(Base):
            __tablename__ = "upload"
            id: Mapped[int] = mapped_column(primary_key=True)
        Base.metadata.create_all(engine)
        upload = Upload()
        """,
    "docs/how-to/batches.md": """
        for name in ("import_contacts", "import_numbers", "assign_texters", "clean_up", "send_report", "send_texts"):
            job(name)(lambda ctx, payload: None)
        """,
    "docs/how-to/dashboard.md": "settings = SimpleNamespace(session_key='k' * 64, oidc_secret='s')",
    "docs/how-to/limits.md": "job('send_text')(lambda ctx, payload: None)",
    "docs/how-to/migrating.md": "import base64, gzip, json",
    "docs/how-to/new-release.md": """
        class Welcome(BaseModel):
            name: str
        """,
    "docs/how-to/policies.md": "customer = SimpleNamespace(name='Ada & Co.')",
    "docs/how-to/progress.md": """
        import os
        os.environ["SPOKE_PROGRESS_KEY"] = "k" * 64
        job("import_contacts")(lambda ctx, payload: None)
        """,
    "docs/how-to/queues-and-keys.md": """
        for name in ("edit_campaign", "rebuild_cache", "send_digest", "index"):
            job(name)(lambda ctx, payload: None)
        campaign, user, document = SimpleNamespace(id=1), SimpleNamespace(id=2), SimpleNamespace(id=3, version=4)
        """,
    "docs/how-to/retries.md": "job('report_failed', payload=FailedJob)(lambda ctx, payload: None)",
    "docs/how-to/schedules.md": """
        class Account(BaseModel):
            name: str
        """,
    "docs/how-to/tasks.md": """
        from uuid import uuid4
        from pydantic import Field
        from sqlalchemy import Column, MetaData, String, Table, insert, select
        sent = Table("sent", MetaData(), Column("message_id", String, primary_key=True))
        sent.create(engine)
        class Message(BaseModel):
            id: str = Field(default_factory=lambda: str(uuid4()))
            to: str = "+15550100"
            body: str = "Hi"
            def __init__(self, *left_out, **values):
                super().__init__(**values)
        carrier = SimpleNamespace(send=lambda to, body, key: None)
        """,
    "docs/how-to/traces.md": """
        job("import_contacts")(lambda ctx, payload: None)
        request = SimpleNamespace(headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
        """,
    "docs/testing.md": """
        import pytest
        from sqlalchemy.orm import sessionmaker
        class ImportContacts(BaseModel):
            upload_id: int
        upload = SimpleNamespace(id=1)
        def import_contacts(ctx, payload):
            ctx.progress(50, "read")
            with ctx.complete({"loaded": 2}) as session:
                session.flush()
        """,
    "examples/recipes/alembic/README.md": """
        import spoke_jobs.ledger.tables
        from spoke_jobs.ledger.tables import include_object, job_request
        context = SimpleNamespace(configure=lambda dots, include_object: None)
        ours = lambda item, *rest: item is not own
        own = SimpleNamespace(schema=None, name="own")
        """,
    "examples/recipes/django/README.md": """
        from contextlib import nullcontext
        class ImportContacts(BaseModel):
            upload_id: int
        job("import_contacts", payload=ImportContacts)(lambda ctx, payload: None)
        transaction = SimpleNamespace(atomic=nullcontext)
        Upload = SimpleNamespace(objects=SimpleNamespace(create=lambda dots: SimpleNamespace(id=1)))
        session_in_transaction = lambda: session
        """,
}
"""By page: what the page's code takes from its application."""
AFTERWARDS = {
    "docs/how-to/batches.md": """
        from sqlalchemy import text
        with engine.connect() as connection:
            count = "SELECT count(*) FROM job_request WHERE job_type = 'send_texts'"
            assert connection.scalar(text(count)) == 2 * len(range(10_000)) + 1
        """,
    "docs/how-to/dashboard.md": "dashboard.close(); signing_in.close()",
    "docs/how-to/migrating.md": "import_script(ctx, base64.b64encode(gzip.compress(b'{}')).decode())",
    "docs/how-to/new-release.md": "assert upgrade({'first': 'Ada', 'last': 'King'}, 1) == {'name': 'Ada King'}",
    "docs/how-to/notify.md": """
        from spoke_jobs.notices.signing import signed_headers, signing_key
        key, body = "whsec_" + base64.b64encode(b"k" * 32).decode(), b"{}"
        headers = signed_headers(signing_key(key), "1", int(time.time()), body)
        assert is_genuine(key, headers, body)
        assert not is_genuine(key, headers, body + b" ")
        assert not is_genuine(key, signed_headers(signing_key(key), "1", int(time.time()) - 900, body), body)
        """,
    "docs/how-to/policies.md": "assert labels['cost-center']",
    "docs/how-to/progress.md": """
        assert import_file(1)["progress"].startswith("/progress/1.1.")
        users_progress.close()
        del os.environ["SPOKE_PROGRESS_KEY"]
        """,
    "docs/how-to/queues-and-keys.md": "assert get_job(job.id).unique_key == 'cache:1'",
    "docs/how-to/tasks.md": """
        close()  # once the task in memory has run
        with engine.connect() as connection:
            assert len(connection.execute(select(sent)).all()) == 1
        """,
    "docs/rotating.md": "engine.connect().close(); engine.dispose()",
    "docs/testing.md": "with Session(engine) as own: test_import(own, upload)",
    "examples/recipes/alembic/README.md": """
        assert include(SimpleNamespace(schema=None, name="upload"), "upload", "table", False, None)
        assert not include(job_request, "job_request", "table", False, None)
        assert not include(own, "own", "table", False, None)
        """,
    "examples/recipes/django/README.md": "assert get_job(1).job_type == 'import_contacts'",
}
"""By page: what is done with what the page defines."""


def test_each_block_is_run_or_says_why_not() -> None:
    unclear = [
        f"{block}: {block.info!r}"
        for block in BLOCKS
        if block.info
        and not NOT_RUN.fullmatch(block.info)
        and not (block.page == "docs/tutorial.md" and IN_A_SESSION.fullmatch(block.info))
    ]
    assert unclear == []
    assert len(BLOCKS) > 100


def test_pages_with_a_test_of_their_own_are_named_there() -> None:
    for page, test in RUN_BY.items():
        words = [part for part in page.removesuffix(".md").split("/") if part != "docs"]
        assert all(word in (ROOT / test).read_text() for word in words), f"{test} does not run {page}"


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for block in BLOCKS for name in re.findall(r"\bmake ([\w-]+)", block.body)}
    assert len(named) > 5
    assert named <= targets


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a reader types. What its modules declare is declared in no other test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spoke_jobs.registry.default", Registry())
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


class Shell:
    """It knows the programs that the pages type on one machine."""

    def __init__(self, url: str, patch: pytest.MonkeyPatch) -> None:
        self._url = url
        patch.setattr(job_actions, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))  # who asks: y
        self._patch = patch
        self._extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def run(self, body: str) -> None:
        for line in body.replace("\\\n", " ").splitlines():
            match shlex.split(line, comments=True):
                case []:
                    continue
                case ["export", *assignments]:
                    for name, _, value in (item.partition("=") for item in assignments):
                        self._patch.setenv(name, self._url if name == "SPOKE_DATABASE_URL" else value)
                case ["pip", "install", requirement]:
                    found = re.fullmatch(r"spoke-jobs\[(\w+)\]", requirement)
                    assert found, line
                    assert found[1] in self._extras, line
                case ["spoke-jobs", command, *arguments] if command in UNTIL_SIGTERM:
                    parsed = typer.main.get_command(build_program([command]))
                    assert hasattr(parsed, "commands")
                    parsed.commands[command].make_context(command, arguments)
                case ["spoke-jobs", *arguments]:
                    done = run_command(arguments, input="y\n")
                    assert done.exit_code == 0, f"{line}: {done.output} {done.exception!r}"
                case _:
                    raise AssertionError(f"{line}: the test's shell does not know this command")


@pytest.mark.parametrize("page", run_here("sh"))
def test_commands_work_as_they_are_typed(
    page: str, folder: Path, sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pages_application.py").write_text(DECLARED)
    (folder / "myapp").mkdir()
    (folder / "myapp/jobs.py").write_text("import pages_application")
    for name, text in re.findall(r"^```yaml\n# ([\w.]+)[^\n]*\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S):
        (folder / name).write_text(text)
    monkeypatch.setenv("SPOKE_DATABASE_URL", sqlite_ledger_url)
    monkeypatch.setenv("SPOKE_APP", "pages_application")
    engine = create_engine(sqlite_ledger_url)
    ledger = SqlLedger(engine)
    for _ in range(FAILED_JOBS):
        fail(ledger, cause="SpokeJobDeleted")
    declared = load_app("pages_application")
    with engine.begin() as connection:  # as the application's worker does when it starts
        declare(connection, "legacy", declared.schedules(), list(declared.jobs), "ada", begins=True)
    engine.dispose()
    shell = Shell(sqlite_ledger_url, monkeypatch)
    try:
        for block in run_here("sh")[page]:
            shell.run(block.body)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("pages_application", "myapp")]:
            del sys.modules[name]


class Page:
    """The names that a page's code sees."""

    def __init__(self, engine: Engine, registry: Registry, session: Session, async_session: AsyncSession) -> None:
        declaring = {name: getattr(registry, name) for name in ("job", "limit", "schedule", "task")}
        self.names: dict[str, Any] = {name: getattr(api, name) for name in api.__all__} | declaring
        exec("from datetime import UTC, datetime, timedelta\nfrom pydantic import BaseModel", self.names)
        self.names |= {
            "SimpleNamespace": SimpleNamespace,
            "Session": Session,
            "engine": engine,
            "session": session,
            "async_session": async_session,
            "payload": {},
            "range": lambda count: builtins.range(min(count, AT_MOST)),
            "ctx": Context(session),
        }

    def run(self, code: str, where: str) -> None:
        """Run code, which may have `await` outside of a function."""
        if code.rstrip().rpartition("\n")[2].startswith("@"):  # a page may show a decorator alone
            code += "def function(ctx, payload): ...\n"
        compiled = compile(code, where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        found = eval(compiled, self.names)
        if inspect.iscoroutine(found):
            asyncio.run(self._to_its_end(found))

    async def _to_its_end(self, found: Coroutine[Any, Any, None]) -> None:
        await found
        await self.names["async_session"].close()


class Context:
    """The context of a job that is in an open batch."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def job(self) -> Any:
        return SimpleNamespace(batch_id=current_runner().open_batch("april").id)


@pytest.fixture
def names(folder: Path, sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    monkeypatch.setenv("SPOKE_DATABASE_URL", sqlite_ledger_url)
    registry = Registry()
    for name in ("job", "limit", "schedule", "task"):  # `from spoke_jobs import job` gets these
        monkeypatch.setattr(spoke_jobs, name, getattr(registry, name))
    runner = LegacyRunner(load_settings(), registry)
    # Each write is committed at once: on SQLite, an open transaction of one snippet would make the next one wait.
    engine = create_engine(sqlite_ledger_url)
    at_once = sqlalchemy.create_engine(sqlite_ledger_url, isolation_level="AUTOCOMMIT")
    async_engine = create_async_engine(sqlite_ledger_url.replace("sqlite:", "sqlite+aiosqlite:"), poolclass=NullPool)
    session = Session(at_once)
    try:
        with use_runner(runner):
            yield Page(engine, registry, session, AsyncSession(async_engine))
    finally:
        runner.close()
        session.close()
        at_once.dispose()
        engine.dispose()


@pytest.mark.parametrize("page", run_here("python"))
def test_code_works_as_it_is_typed(page: str, names: Page, caplog: pytest.LogCaptureFixture) -> None:
    names.run(textwrap.dedent(APPLICATIONS.get(page, "")), "application")
    for block in run_here("python")[page]:
        names.run(block.body, str(block))
    names.names["ctx"] = fake_context()
    names.run(textwrap.dedent(AFTERWARDS.get(page, "")), "afterwards")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
