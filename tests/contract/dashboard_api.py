"""The dashboard's JSON API. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import API_ROUTES, EVERYBODY, HOSTILE, ONE, DashboardScene, Open
from tests.contract.ledger import new_job

from spoke_jobs.explain.json_output import Explained, Jobs, Shown
from spoke_jobs.explain.why import explain
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure
from spoke_jobs.web.viewer import Viewer

API = "/api/v1"
ONE_WITH_VALUES = Viewer(name="eve", organizations=frozenset({1}), may_see_payloads=True)
LONG = "x" * 60_000


class Client:
    """Asks the API, and checks that each answer is what the OpenAPI document says."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        answer = browser.get(f"{API}/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        self.document = answer.json()

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        answer = self.browser.get(API + path, params=query or None)
        assert answer.status_code == status, answer.text
        self.check(path, answer)
        self.last = answer
        return answer.json()

    def check(self, path: str, answer: Any) -> None:
        """Compare an answer with what the document says about its path and its status."""
        (operation,) = (
            item["get"]
            for known, item in self.document["paths"].items()
            if re.fullmatch(re.sub(r"{\w+}", r"[^/]+", known), path.partition("?")[0])
        )
        said = operation["responses"][str(answer.status_code)]
        if "$ref" in said:
            said = self.document["components"]["responses"][said["$ref"].rpartition("/")[2]]
        ((media_type, content),) = said["content"].items()
        assert answer.headers["content-type"] == media_type
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers, "programs keep no session"
        assert {name.title() for name in answer.headers if name == "link"} <= set(said.get("headers", ()))
        self.validate(content["schema"], answer.json())
        if answer.status_code != 200:
            assert answer.json()["status"] == answer.status_code

    def validate(self, schema: dict[str, Any], value: Any) -> None:
        """Compare a value with a schema. A field that the schema does not name is an error, too."""
        whole = json.loads(json.dumps(schema | {"components": self.document["components"]}))
        for each in whole["components"]["schemas"].values():
            if "properties" in each:
                each.setdefault("additionalProperties", False)
        Draft202012Validator(whole, format_checker=FormatChecker()).validate(value)

    def pages(self, path: str, rel: str = "next", **query: Any) -> Iterator[Any]:
        """The list, and those to which its links lead, one after the other."""
        yield self.get(path, **query)
        while (found := re.search(rf'<({API}[^>]*)>; rel="{rel}"', self.last.headers.get("link", ""))) is not None:
            yield self.get(found[1].removeprefix(API))


class ApiContract(DashboardScene):
    """What a program gets."""

    @pytest.fixture
    def client(self, browse: Open) -> Client:
        return Client(browse(EVERYBODY))

    @pytest.fixture
    def mine(self, browse: Open) -> Client:
        """That of a viewer of one organization."""
        return Client(browse(ONE))

    # The documents are those of the command line

    def test_a_job_and_its_reasons_are_those_of_the_command_line(self, ledger: SqlLedger, client: Client) -> None:
        first = ledger.insert(new_job(job_type="first"))
        job = ledger.insert(new_job(after=(first.id,), after_failed="run"))
        ledger.cancel(first.id, "ada")
        claim = self.claimed(ledger)
        ledger.save(None, claim.token, {"": "4000", "charge": '"yes"'})
        ledger.fail(claim.token, Failure("JobError", "no", "ValueError", "last line", for_good=True), decide=True)
        queries = Queries(ledger.engine)
        found = ledger.get(job.id)
        situation = queries.situation(job.id)
        assert found is not None
        assert situation is not None
        shown = Shown.of(
            found,
            queries.attempts(job.id),
            None,
            queries.reports(job.id),
            queries.saved(job.id),
            queries.links(job.id),
            with_payload=False,
        )
        assert client.get(f"/jobs/{job.id}") == shown.model_dump(mode="json")
        assert shown.attempts
        assert shown.checkpoints
        assert shown.dependencies
        explained = Explained.of(situation.job, explain(situation))
        of_api = client.get(f"/jobs/{job.id}/why")
        ago = re.compile(r"\d+ m?s ago")
        assert re.sub(ago, "", json.dumps(of_api)) == re.sub(ago, "", json.dumps(explained.model_dump(mode="json")))
        jobs = Jobs.of(queries.with_cancellers(ledger.list_jobs(20)))
        assert client.get("/jobs") == jobs.model_dump(mode="json")

    # Lists

    def test_jobs_are_filtered_and_paged_by_key(self, ledger: SqlLedger, client: Client) -> None:
        jobs = ledger.insert_many([new_job(job_type=f"type_{number % 2}") for number in range(14)])
        wanted = [job.id for job in reversed(jobs) if job.job_type == "type_1"]
        pages = list(client.pages("/jobs", type="type_1", state="waiting", limit=3))
        assert [[job["id"] for job in page["jobs"]] for page in pages] == [wanted[:3], wanted[3:6], wanted[6:]]
        back = list(client.pages("/jobs", "prev", type="type_1", state="waiting", limit=3, before=wanted[5]))
        assert [[job["id"] for job in page["jobs"]] for page in back] == [wanted[6:], wanted[3:6], wanted[:3]]
        assert len(client.get("/jobs")["jobs"]) == 14
        assert "link" not in client.last.headers

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("state=gone", "state"),
            ("organization=x", "organization"),
            ("organization=99999999999", "organization"),
            ("batch=0", "batch"),
            ("type=%00", "type"),
            ("type=%20", "type"),
            ("type=", "type"),
            (f"queue={'x' * 501}", "queue"),
            ("since=soon", "since"),
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("before=x", "before"),
            ("after=-1", "after"),
            ("typ=report", "typ"),
            ("id=7", "id"),
            ("state=failed&state=waiting", "state"),
            ("%1b%5b31m=1", "\x1b[31m"),
        ],
    )
    def test_a_parameter_that_is_not_valid_is_named(self, client: Client, query: str, name: str) -> None:
        problem = client.get(f"/jobs?{query}", 400)
        assert [error["parameter"] for error in problem["errors"]] == [name]
        assert "\x1b" not in client.last.text

    def test_each_filter_of_the_page_selects(self, ledger: SqlLedger, client: Client) -> None:
        other = self.failed(ledger, job_type="export", queue_name="q2", organization_id=2)
        batch = ledger.open_batch("import")
        job = self.failed_at(
            ledger, "ValueError@shop.f", queue_name="q1", organization_id=1, batch_id=batch.id, unique_key="k"
        )
        for query in (
            {"state": "failed", "type": "rep*"},
            {"queue": "q1"},
            {"organization": 1},
            {"batch": batch.id},
            {"cause": "JobError", "fingerprint": "ValueError@shop.f"},
            {"before": job.id + 1, "after": 0, "limit": 1},
        ):
            assert [row["id"] for row in client.get("/jobs", **query)["jobs"]] == [job.id], query
        for query in ({"until": "2000-01-01T00:00Z"}, {"since": "2999-01-01T00:00:00+01:00"}, {"schedule": "nightly"}):
            assert client.get("/jobs", **query)["jobs"] == []
        assert {row["id"] for row in client.get("/jobs", since="2000-01-01T00:00")["jobs"]} == {job.id, other.id}

    # Who may see what

    @pytest.mark.parametrize("path", [path for _, path in API_ROUTES])
    def test_nobody_is_told_anything_without_signing_in(self, browse: Open, client: Client, path: str) -> None:
        path = path.format(job_id=1)
        answer = browse(None).get(path)
        assert answer.status_code == 401
        client.check(path.removeprefix(API), answer)

    def test_payload_result_and_output_need_permission(self, ledger: SqlLedger, client: Client, browse: Open) -> None:
        ledger.insert(new_job(payload='{"secret":"in the payload"}', organization_id=1))
        claim = self.claimed(ledger)
        ledger.succeed(None, claim.token, {"secret": "in the result"})
        path = f"/jobs/{claim.job.id}"
        assert client.get(path)["payload"] is None
        assert client.get(path, payload="false")["payload"] is None
        assert client.get(path, payload="true")["payload"] == {"secret": "in the payload"}
        for each in ("/jobs", path, f"{path}/why"):
            assert "in the result" in json.dumps(client.get(each))
        refused = Client(browse(Viewer(name="eve", organizations=None, may_see_output=False)))
        assert refused.get(path)["payload_bytes"] == 27
        assert "payloads" in refused.get(path, 403, payload="true")["detail"]
        failed = self.failed(ledger)
        texts = [
            json.dumps(refused.get(f"{each}{end}")) for each in (path, f"/jobs/{failed.id}") for end in ("", "/why")
        ]
        for text in (*texts, json.dumps(refused.get("/jobs"))):
            assert "in the payload" not in text
            assert "in the result" not in text
            assert "last line" not in text
        for end in ("", "/why"):
            assert "last line" in json.dumps(client.get(f"/jobs/{failed.id}{end}"))

    def test_a_large_payload_is_left_out(self, ledger: SqlLedger, client: Client) -> None:
        for size, shown in ((LONG, True), (LONG * 2, False)):
            job = ledger.insert(new_job(payload=json.dumps(size)))
            found = client.get(f"/jobs/{job.id}", payload="true")
            assert found["payload"] == (size if shown else None)
            assert found["payload_bytes"] == len(size) + 2

    def test_jobs_of_other_organizations_do_not_exist(self, ledger: SqlLedger, mine: Client) -> None:
        ledger.insert(new_job(job_type="theirs", organization_id=2, queue_name="their_queue", locks_queue=True))
        theirs = self.claimed(ledger).job
        between = ledger.insert(new_job(job_type="theirs", organization_id=2))
        first = ledger.insert(new_job(job_type="first", organization_id=1))
        hidden = ledger.insert(new_job(job_type="theirs", organization_id=2, after=(first.id,)))
        waits = ledger.insert(new_job(job_type="mine", organization_id=1, queue_name="their_queue", locks_queue=True))
        after = ledger.insert(
            new_job(job_type="after", organization_id=1, after=(theirs.id, between.id, hidden.id, waits.id))
        )
        failed = ledger.insert(new_job(job_type="mine", organization_id=1, after=(between.id,)))
        ledger.cancel(between.id)
        jobs = mine.get("/jobs")["jobs"]
        assert {job["id"] for job in jobs} == {first.id, waits.id, after.id, failed.id}
        found = [mine.get(f"/jobs/{job['id']}{end}") for job in jobs for end in ("", "/why")]
        said = json.dumps([jobs, *found]).replace("their_queue", "")
        assert "theirs" not in said
        for other in (theirs, between, hidden):
            assert not re.search(rf'\bjob {other.id}\b|why {other.id}\b|(?:job|needs)_id": {other.id}\b', said)
            for end in ("", "/why"):
                assert mine.get(f"/jobs/{other.id}{end}", 404) == mine.get(f"/jobs/999{end}", 404)
        shown = mine.get(f"/jobs/{after.id}")
        assert [each["needs_id"] for each in shown["dependencies"]] == [waits.id], "below theirs, nothing is named"
        assert mine.get("/jobs", organization=2)["jobs"] == []

    # Errors

    def test_an_address_that_does_not_exist(self, client: Client) -> None:
        for path in ("/nothing", "/jobs/7/nothing"):
            answer = client.browser.get(API + path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
            assert answer.json()["status"] == 404
        for job_id in ("0", "x", "9223372036854775808"):
            client.get(f"/jobs/{job_id}", 404)
        answer = client.browser.post(f"{API}/jobs")
        assert (answer.status_code, {*answer.headers["allow"].split(", ")}) == (405, {"GET", "HEAD"})
        assert answer.headers["content-type"] == "application/problem+json"

    def test_hostile_texts_are_inert(self, ledger: SqlLedger, client: Client) -> None:
        job = self.failed_at(ledger, HOSTILE, HOSTILE, queue_name=HOSTILE, unique_key=HOSTILE)
        for path in ("/jobs", f"/jobs/{job.id}", f"/jobs/{job.id}/why"):
            found = client.get(path)
            assert (found["jobs"][0] if path == "/jobs" else found["job"])["queue_name"] == HOSTILE
            assert "\x1b" not in client.last.text
            assert "\u202e" not in client.last.text
            assert client.last.headers["x-content-type-options"] == "nosniff"
