"""The jobs that docs/how-to/once.md shows, run as the page shows them: an attempt that breaks off repeats little."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from pydantic import BaseModel, create_model
from sqlalchemy import Engine, StaticPool
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from spoke_jobs import JobContext, JobData, JobState, Registry
from spoke_jobs.ledger.engine import configure_sqlite
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings

PAGE = Path(__file__).parents[3] / "docs/how-to/once.md"


class Base(DeclarativeBase):
    pass


class Contact(Base):
    __tablename__ = "contact"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int]


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    stock: Mapped[int]


class Service:
    """Another service: it notes the keys that it gets, and does not answer the calls of some numbers."""

    def __init__(self, fails_at: tuple[int, ...] = ()) -> None:
        self.keys: list[str] = []
        self._fails_at = fails_at

    def __getattr__(self, name: str) -> Any:
        def call(*_arguments: Any, key: str) -> str:
            self.keys.append(key)
            if len(self.keys) in self._fails_at:
                raise ConnectionError("no answer")
            return f"answer {len(self.keys)}"

        return call


class Shown:
    """The page's jobs, with the names that it leaves to the application."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        registry = Registry()
        self.file = [{"id": number, "account_id": number % 2} for number in range(1, 2501)]
        self.reads: list[int] = []
        self.payments, self.mailer, self.carrier = Service(), Service((1,)), Service((1,))
        fields: dict[str, Any] = {"account_id": (int, 0), "file": (str, ""), "item_id": (int, 1), "cents": (int, 5)}
        fields["cell"] = (str, "")
        names: dict[str, Any] = {"job": registry.job, "JobContext": JobContext, "Contact": Contact, "Item": Item}
        names |= {name: getattr(sqlalchemy, name) for name in ("insert", "update", "delete")}
        names |= {name: getattr(self, name) for name in ("read_rows", "payments", "mailer", "carrier")}
        for model in ("CloseAccount", "ImportContacts", "PlaceOrder", "Remind"):
            made: type[BaseModel] = create_model(model, **fields)
            names[model] = made
        for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
            exec(compile(block, PAGE.name, "exec", dont_inherit=True), names)
        self.runner = MemoryRunner(Settings(), registry, lambda: Session(engine))

    def read_rows(self, _file: str, *, after: int, limit: int) -> list[dict[str, int]]:
        self.reads.append(after)
        if len(self.reads) == 3:
            raise OSError("the machine is gone")
        return self.file[after : after + limit]

    def run(self, job_type: str) -> Any:
        self.runner.dispatch_job(JobData(job_type, {}))
        (job,) = self.runner.drain()
        assert job.state is JobState.SUCCEEDED, job
        return job

    def scalars(self, statement: Any) -> list[Any]:
        with Session(self.engine) as session:
            return list(session.scalars(statement))


@pytest.fixture
def shown() -> Iterator[Shown]:
    engine = configure_sqlite(sqlalchemy.create_engine("sqlite://", poolclass=StaticPool))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Item(id=1, stock=10)])
        session.commit()
    yield Shown(engine)
    engine.dispose()


def test_an_import_goes_on_after_its_last_batch(shown: Shown) -> None:
    job = shown.run("import_contacts")
    assert (job.result, job.attempt) == ({"rows": 2500}, 2)
    assert shown.reads == [0, 1000, 2000, 2000, 2500], "the third read broke off, and only it is repeated"
    assert len(shown.scalars(sqlalchemy.select(Contact.id))) == 2500


def test_steps_are_done_once_and_a_repeated_call_has_the_same_key(shown: Shown) -> None:
    job = shown.run("place_order")
    assert job.attempt == 2
    assert shown.scalars(sqlalchemy.select(Item.stock)) == [9]
    assert shown.payments.keys == [f"{job.uid}-charge"]
    assert shown.mailer.keys == [f"{job.uid}-receipt"] * 2


def test_the_key_of_an_attempt_is_another_one_in_the_next(shown: Shown) -> None:
    job = shown.run("remind")
    assert shown.carrier.keys == [f"{job.uid}-1-1", f"{job.uid}-1-2"]


def test_writes_are_committed_with_the_success(shown: Shown) -> None:
    with Session(shown.engine) as session:
        session.add_all([Contact(id=1, account_id=0), Contact(id=2, account_id=1)])
        session.commit()
    shown.run("close_account")
    assert shown.scalars(sqlalchemy.select(Contact.id)) == [2]
