"""The statement of docs/how-to/costs.md, on the ledger of real attempts."""

from __future__ import annotations

import re

from sqlalchemy import text
from tests.contract.ledger import claim_one, new_job
from tests.integration.docs.pages import ROOT

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger

PAGE = ROOT / "docs/how-to/costs.md"
ATTEMPTS = ((3, 90), (3, 30), (7, 360), (None, 6))
"""The organization and the minutes of each."""

LASTED = text("UPDATE job_attempt SET claimed_at = finished_at - make_interval(mins => :minutes) WHERE job_id = :id")


def test_the_hours_of_each_type_and_organization(postgres_ledger_url: str) -> None:
    (statement,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S)
    engine = create_engine(postgres_ledger_url)
    ledger = SqlLedger(engine)
    for organization, minutes in ATTEMPTS:
        ledger.insert(new_job(organization_id=organization))
        claim = claim_one(ledger, "legacy", ["report"], "worker", 30)
        assert claim is not None
        ledger.succeed(None, claim.token, None)
        with engine.begin() as connection:
            connection.execute(LASTED, {"minutes": minutes, "id": claim.job.id})
    ledger.insert(new_job(organization_id=7))
    assert claim_one(ledger, "legacy", ["report"], "worker", 30), "one that still runs"
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(statement))]
    assert [(kind, whose, count, round(float(hours), 3)) for kind, whose, count, hours in rows] == [
        ("report", 7, 1, 6.0),
        ("report", 3, 2, 2.0),
        ("report", None, 1, 0.1),
    ]
    engine.dispose()
