"""`spoke-jobs sizes`: what jobs used, what they ask for, and what would do."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from tests.contract.ledger import new_job
from tests.unit.cli.conftest import Run, claimed, document

from spoke_jobs.cli.commands import arguments
from spoke_jobs.job_options import JobOptions
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import UNMEASURED, AttemptUsage

MIB = 2**20


def succeed(ledger: SqlLedger, job_type: str, usage: AttemptUsage = UNMEASURED, **changes: object) -> None:
    ledger.insert(new_job(job_type=job_type, **changes))
    ledger.succeed(None, claimed(ledger, job_type).token, None, None, usage)


@pytest.fixture
def used(ledger: SqlLedger) -> None:
    """Two measured reports of different organizations, and an export in an event loop, which is not measured."""
    options = JobOptions(resources={"requests": {"memory": "1Gi"}})
    succeed(ledger, "report", AttemptUsage(100 * MIB, 400, 1000), options=options)
    succeed(ledger, "report", AttemptUsage(50 * MIB, 100, 1000), options=options, organization_id=7)
    succeed(ledger, "export", AttemptUsage(wall_milliseconds=5))


@pytest.mark.usefixtures("used")
class TestSizes:
    def test_lines(self, run: Run) -> None:
        export, report = (line.split("\t") for line in run("sizes").stdout.splitlines())
        assert export == ["export", "0", *["-"] * 10]
        assert report[:5] == ["report", "2", str(50 * MIB), str(100 * MIB), str(100 * MIB)]
        assert report[5:] == ["0.100", "0.400", "0.400", "1Gi", "-", "112Mi", "400m"]

    def test_a_table(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(arguments, "on_a_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", "160")
        shown = run("sizes").stdout
        assert "50 MiB / 100 MiB / 100 MiB" in shown
        assert "memory 112Mi, cpu 400m" in shown
        (export,) = (line for line in shown.splitlines() if line.startswith("export"))
        assert "nothing measured" in export

    def test_json_and_filters(self, run: Run) -> None:
        (size,) = document(run("sizes", "--json", "--type", "rep*", "--organization", "7"))["types"]
        assert (size["successes"], size["measured"], size["cores"]["max"]) == (1, 1, 0.1)
        assert (size["asks"], size["needs"]) == ({"memory": "1Gi"}, {"memory": "56Mi", "cpu": "100m"})

    def test_a_type_without_history_says_so(self, run: Run) -> None:
        environment = {"SPOKE_APP": "tests.contract.app:registry"}
        types = {one["job_type"]: one for one in document(run("sizes", "--json", env=environment))["types"]}
        assert types["plain"]["successes"] == 0
        assert types["plain"]["needs"] == {}
        assert types["report"]["measured"] == 2
        assert "spoke_jobs.check" not in types


def test_no_history_at_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert document(run("sizes", "--json")) == {"types": []}
    monkeypatch.setattr(arguments, "on_a_terminal", lambda: True)
    assert run("sizes").stdout == "no job has succeeded\n"


def test_a_type_that_other_code_made_too_long_for_the_index_hides_no_other(ledger: SqlLedger, run: Run) -> None:
    succeed(ledger, "export", AttemptUsage(MIB, 1, 1))
    succeed(ledger, "report", AttemptUsage(MIB, 1, 1))
    with ledger.engine.begin() as connection:
        connection.execute(
            text("UPDATE job_request SET job_type = :long WHERE job_type = 'export'"), {"long": "a" * 999}
        )
    assert [one["job_type"] for one in document(run("sizes", "--json"))["types"]] == ["report"]


@pytest.mark.parametrize("resources", ['{"limits": "x"}', '{"limits": [["memory", "1Gi"]], "requests": 7}', '"x"'])
def test_resources_that_only_other_code_writes_hide_no_type(ledger: SqlLedger, run: Run, resources: str) -> None:
    succeed(ledger, "broken")
    succeed(ledger, "report", options=JobOptions(resources={"limits": {"memory": "1Gi"}}))
    with ledger.engine.begin() as connection:
        broken = text("UPDATE job_request SET options = :options WHERE job_type = 'broken'")
        connection.execute(broken, {"options": f'{{"resources": {resources}}}'})
    found = document(run("sizes", "--json"))["types"]
    assert [(one["job_type"], one["asks"]) for one in found] == [("broken", {}), ("report", {"memory": "1Gi"})]
