"""What the shop's pods run. SPOKE_APP names it; in the image it lies beside the texting example."""

from __future__ import annotations

import os
import time

from pydantic import BaseModel
from sqlalchemy import Column, MetaData, NullPool, Table, Text, select

import texting.jobs  # noqa: F401 (its tasks keep the task deployment busy)
from spoke_jobs import JobContext, Registry, job
from spoke_jobs.ledger.engine import create_engine

metadata = MetaData()
gate = Table("shop_gate", metadata, Column("name", Text, primary_key=True))
"""What payouts wait for. An open gate has a row."""

before = Registry()
"""The release before: it has no invoices."""


class Payouts(BaseModel):
    """What a run of payouts needs."""

    megabytes: int = 0
    waits_for: str = ""
    """A gate; empty for none."""


@before.job("payouts", payload=Payouts)
@job("payouts", payload=Payouts)
def payouts(ctx: JobContext, payload: Payouts) -> None:
    """Take memory, wait for the gate, and end."""
    rows = b"x" * (payload.megabytes * 1_000_000)
    looks = 0
    while payload.waits_for and not is_open(payload.waits_for):
        ctx.raise_if_cancelled()
        looks += 1
        ctx.progress(min(looks, 3), f"page {looks} of 100" if looks < 3 else "page 3 of 100: no answer from the bank")
        time.sleep(1)
    assert len(rows) == payload.megabytes * 1_000_000


@job("invoice")
def invoice(_ctx: JobContext, _payload: dict[str, int]) -> None:
    """Do nothing."""


def is_open(name: str) -> bool:
    """Whether the gate is open."""
    engine = create_engine(os.environ["SPOKE_DATABASE_URL"], poolclass=NullPool)
    with engine.connect() as connection:
        return connection.scalar(select(gate.c.name).where(gate.c.name == name)) is not None
