"""The dashboard's JSON API. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from sqlalchemy import insert
from tests.contract.browser import Browser
from tests.contract.dashboard_job import spokejob
from tests.contract.dashboard_scene import EVERYBODY, ONE, Open
from tests.contract.dashboard_schedules import HOURLY, ScheduleScene
from tests.contract.ledger import new_job

from spoke_jobs import Cron
from spoke_jobs.cluster.cluster_view import ClusterView, SpokeJobWaits, WaitingSpokeJob
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.explain.counts_json import Batches, BatchState, Events, LimitList
from spoke_jobs.explain.groups import groups
from spoke_jobs.explain.groups_json import ReasonGroups
from spoke_jobs.explain.json_output import Explained, Jobs, Shown
from spoke_jobs.explain.mutes_json import Mutes
from spoke_jobs.explain.schedules_json import Schedules, schedule_problems
from spoke_jobs.explain.why import explain
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.ledger.notices.notice_values import NewMute
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.schedules import schedule_rows
from spoke_jobs.ledger.schedules.schedule_rows import skip_to_json
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import attempt_report, job_request
from spoke_jobs.limits.job_limit import Bounds, Rate, parse_scope
from spoke_jobs.model import Failure, JobRequest
from spoke_jobs.schedules.occurrences import Skip, SkipReason
from spoke_jobs.web.viewer import Viewer

API = "/api/v1"
AGO = r"(?:[\d.]+ (?:ms|s|min|h) ?)+ago"
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


class ApiContract(ScheduleScene):
    """What a program gets."""

    @pytest.fixture
    def client(self, browse: Open) -> Client:
        return Client(browse(EVERYBODY))

    @pytest.fixture
    def mine(self, browse: Open) -> Client:
        """That of a viewer of one organization."""
        return Client(browse(ONE))

    def test_the_other_documents_are_those_of_the_command_line(self, ledger: SqlLedger, client: Client) -> None:
        self.failed_at(ledger, "ValueError@shop.f")
        self.failed_at(ledger, "KeyError@shop.g")
        job = ledger.insert(new_job())
        ledger.cancel(job.id, "ada")
        self.add(ledger, "nightly", Cron("0 3 * * *", timezone="America/New_York"))
        batch = ledger.open_batch("april", new_job(job_type="export"))
        ledger.insert(new_job(batch_id=batch.id))
        ledger.limits.set(parse_scope("type:report"), lambda _: Bounds(3, Rate.parse("100/min")), "grace")
        ledger.limits.pause(parse_scope("queue:mail"), "the provider is down", "grace")
        queries = Queries(ledger.engine)
        new = NewMute(cause="OutOfMemory", until=queries.now() + timedelta(days=2), reason="known")
        with ledger.engine.begin() as connection:
            mute_rows.add_mute(connection, new, "grace")
            mutes = mute_rows.current_mutes(connection)
        found = groups(queries.crowd(86_400.0))
        assert {group.state for group in found} >= {"waiting", "blocked", "failed"}
        failed = [group for group in found if group.state == "failed"]
        rows, now = [self.row(ledger, "nightly")], queries.now()
        problems = [*schedule_problems(rows, now, 86_400.0)]
        for path, document in {
            "/why": ReasonGroups.of(found, 86_400.0, problems),
            "/failures": ReasonGroups.of(failed, 86_400.0, ()),
            "/limits": LimitList.of(queries.limits()),
            "/schedules": Schedules.of(rows, now, 5),
            "/batches": Batches.of(ledger.batches(20)),
            f"/batches/{batch.id}": BatchState.of(ledger.batches(1)[0]),
            "/events": Events.of(queries.events(20)),
            "/mutes": Mutes.of(mutes),
        }.items():
            shown = json.loads(re.sub(AGO, "", document.model_dump_json()))
            assert json.loads(re.sub(AGO, "", json.dumps(client.get(path)))) == shown, path

    def test_other_lists_are_filtered_and_paged_by_key(self, ledger: SqlLedger, client: Client) -> None:
        for number in range(5):
            self.add(ledger, f"schedule {number}")
            batch = ledger.open_batch(f"batch {number % 2}")
            ledger.cancel_batch(batch.id, "ada" if number % 2 else "grace")
        pages = client.pages("/schedules", limit=2)
        assert [[each["name"][-1] for each in page["schedules"]] for page in pages] == [["0", "1"], ["2", "3"], ["4"]]
        assert [each["name"] for each in client.get("/schedules", name="schedule 3")["schedules"]] == ["schedule 3"]
        assert client.get("/schedules", name="schedule")["schedules"] == []
        problem = client.get("/schedules", 400, name="schedule 3", after="schedule 4", limit=1)
        assert problem["errors"] == [{"parameter": "after", "detail": "Leave it out, or leave out name."}]
        pages = client.pages("/batches", limit=2, name="*0", since="2000-01-01T00:00Z")
        assert [[each["name"] for each in page["batches"]] for page in pages] == [["batch 0"] * 2, ["batch 0"]]
        assert client.get("/batches", until="2000-01-01T00:00Z")["batches"] == []
        client.get("/batches/999", 404)
        pages = client.pages("/events", limit=2, by="gr*", action="cancel batch")
        assert [[each["actor"] for each in page["events"]] for page in pages] == [["grace"] * 2, ["grace"]]
        for query in ({"type": "other"}, {"job": 7}, {"until": "2000-01-01T00:00Z"}, {"action": "prune"}):
            assert client.get("/events", **query)["events"] == [], query
        client.get("/events", 400, action="dance")

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

    def test_schedules_are_looked_for_among_many_of_others(
        self, ledger: SqlLedger, mine: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.ledger.reading.dashboard_queries.SCHEDULES_LOOKED_THROUGH", 2)
        for name in ("a1", "a2", "a3", "a4", "a5", "c1", "c2", "c3"):
            self.add(ledger, name, organization_id=2)
        for name in ("b", "d"):
            self.add(ledger, name, organization_id=1)
        pages = mine.pages("/schedules")
        assert [[each["name"] for each in page["schedules"]] for page in pages] == [["b"], ["d"], []]
        monkeypatch.setattr("spoke_jobs.web.api_reads.SCHEDULE_LOOKS", 2)
        assert "`name`" in mine.get("/schedules", 503)["detail"]
        assert "a4" not in mine.last.text
        assert [each["name"] for each in mine.get("/schedules", after="a2")["schedules"]] == ["b"]
        assert [each["name"] for each in mine.get("/schedules", name="d")["schedules"]] == ["d"]

    def test_a_payload_that_json_can_hardly_hold(self, ledger: SqlLedger, client: Client) -> None:
        deep = f"{'[' * 300}{']' * 300}"
        for payload, shown in ((r'{"name": "\udce9t"}', {"name": "\ufffdt"}), (deep, deep)):
            job = ledger.insert(new_job(payload=payload))
            assert client.get(f"/jobs/{job.id}", payload="true")["payload"] == shown

    def test_texts_in_json_that_no_document_can_have(self, ledger: SqlLedger, client: Client) -> None:
        for name in ("broken", "whole"):
            self.add(ledger, name)
        now = Queries(ledger.engine).now()
        written = skip_to_json(Skip(SkipReason.INVALID, now, now, detail="caf\udce9"))
        assert written["detail"] == "caf\ufffd"
        self.change(ledger, "broken", last_skip=written | {"detail": "caf\udce9"})
        broken, whole = client.get("/schedules")["schedules"]
        assert (broken["last_skip"]["detail"], whole["name"]) == ("caf\ufffd", "whole")
        assert any("caf\ufffd" in each["text"] for each in client.get("/why")["schedules"])
        job = ledger.insert(new_job())
        report = {"job_id": job.id, "run": 1, "number": 1, "cause": "JobError", "message": "", "pod": ""}
        outputs = [{"container": "job\ud83d", "text": "caf\udce9"}]
        with ledger.engine.begin() as connection:
            connection.execute(insert(attempt_report).values(**report, created_at=now, outputs=outputs))
        (shown,) = client.get(f"/jobs/{job.id}")["reports"]
        assert shown["outputs"] == [{"container": "job\ufffd", "text": "caf\ufffd"}]

    def test_the_rest_that_is_of_other_organizations_does_not_exist(
        self, ledger: SqlLedger, mine: Client, client: Client
    ) -> None:
        for organization, name in ((1, "ours"), (2, "theirs")):
            of = {"organization_id": organization, "job_type": name}
            self.failed_at(ledger, f"ValueError@{name}", **of | {"job_type": "report", "queue_name": name})
            batch = ledger.open_batch(name, new_job(**of | {"organization_id": 2}))
            ledger.insert(new_job(**of, batch_id=batch.id))
            self.add(ledger, name, organization_id=organization)
            ledger.cancel(ledger.insert(new_job(**of)).id, f"friend of {name}")
        theirs = ledger.list_jobs(1)[0].id
        skip = {"reason": "Overlap", "first": "2026-03-01T00:00:00+00:00", "last": "2026-03-01T00:00:00+00:00"}
        skip["last"] = skip["first"] = Queries(ledger.engine).now().isoformat()
        self.change(ledger, "ours", last_job_id=theirs, last_skip=skip | {"jobId": theirs, "detail": ""})
        self.change(ledger, "theirs", last_skip=skip | {"jobId": theirs, "detail": ""})
        found = [mine.get(path) for path in ("/why", "/failures", "/schedules", "/batches", "/events")]
        assert "theirs" not in json.dumps(found)
        assert "ours" in json.dumps(found[0])
        assert [group["count"] for group in found[1]["groups"]] == [1, 1], "one by its code, one cancelled"
        (problem,) = found[0]["schedules"]
        assert (problem["name"], problem["advice"], problem["skip"]["job_id"]) == ("ours", "", None)
        (schedule,) = found[2]["schedules"]
        assert (schedule["last_job_id"], schedule["last_skip"]["job_id"]) == (None, None)
        ((ours,), both) = (each.get("/batches")["batches"] for each in (mine, client))
        assert (ours["name"], ours["then_id"]) == ("ours", None)
        assert mine.get(f"/batches/{ours['id']}") == ours
        mine.get(f"/batches/{both[0]['id']}", 404)
        assert [each["actor"] for each in found[4]["events"]] == ["friend of ours"]
        assert client.get("/batches/" + str(ours["id"]))["then_id"] is not None
        for path in ("/limits", "/mutes"):
            assert "organizations" in mine.get(path, 403)["detail"]

    def test_a_large_payload_of_a_schedule_is_left_out(self, ledger: SqlLedger, client: Client) -> None:
        names = [f"schedule {number}" for number in range(5)]
        for name in names:
            self.add(ledger, name)
            self.change(ledger, name, definition=self.row(ledger, name).definition | {"payload": LONG * 2})
        shown = client.get("/schedules")["schedules"]
        assert [each["name"] for each in shown] == names
        assert all("payload" not in each["definition"] and each["next"] for each in shown)
        assert len(client.last.content) < len(LONG)
        with ledger.engine.connect() as connection:
            self.change(ledger, names[1], served_at=None, definition=self.row(ledger, names[0]).definition)
            self.change(
                ledger, names[2], served_at=None, definition=self.row(ledger, names[2]).definition | {"payload": 7}
            )
            rows = [*schedule_rows.schedules_after(connection, names[0], 2)]
            rows += schedule_rows.perhaps_troubled(connection, names[0], 9, None)
        payloads = [row.definition.get("payload") for row in rows]
        assert payloads == [None, 7] * 2, "not even read, except one by one"
        assert all(row.schedule().timing == HOURLY for row in rows)
        (alone,) = client.get("/schedules", name=names[0])["schedules"]
        assert "payload" not in alone["definition"]
        self.change(ledger, names[0], definition=self.row(ledger, names[0]).definition | {"payload": LONG})
        (alone,) = client.get("/schedules", name=names[0])["schedules"]
        assert alone["definition"]["payload"] == LONG
        assert "payload" not in client.get("/schedules")["schedules"][0]["definition"]


class ApiDocuments(ApiContract):
    """What depends on no database."""

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
        assert re.sub(AGO, "", json.dumps(of_api)) == re.sub(AGO, "", json.dumps(explained.model_dump(mode="json")))
        jobs = Jobs.of(queries.with_cancellers(ledger.list_jobs(20)))
        assert client.get("/jobs") == jobs.model_dump(mode="json")

    def test_what_the_cluster_says_of_jobs(
        self, ledger: SqlLedger, client: Client, mine: Client, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = ledger.insert(new_job(runner="kubernetes", organization_id=1))
        self.alter(ledger, job_request, submitted_at=clock_after(0))
        asked = []

        def view_of(shown: JobRequest, _namespace: str, *, around: bool) -> ClusterView:
            asked.append(around)
            attempt = {"node": "node-7", "container": "job", "message": "0/3 nodes are available"}
            return ClusterView("report-1", "jobs", spokejob(shown, **attempt))

        waits = (WaitingSpokeJob(job.id, str(job.uid), Wait(WaitReason.CLUSTER_FULL, object="cpu"), None),)
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.view_of", view_of)
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.waits_in", lambda _namespace: SpokeJobWaits(waits))
        for each in (client, mine):
            cluster = each.get(f"/jobs/{job.id}")["cluster"]
            assert (cluster["namespace"], cluster["attempts"][0]["node"]) == ("jobs", "node-7")
            each.get(f"/jobs/{job.id}/why")
        assert asked == [False, True, False, False], (
            "the jobs around it are no business of the viewer of one organization"
        )
        reasons = [each.get("/why")["groups"][0]["reason"] for each in (client, mine)]
        assert reasons[0] == "ClusterFull"
        assert reasons[1] != "ClusterFull"
        for read, said in (
            (SpokeJobWaits(waits), ()),
            (SpokeJobWaits(waits, more=True), ("more SpokeJobs than were read",)),
            (SpokeJobWaits(problem="no route to it"), ("could not be read: no route to it",)),
        ):
            monkeypatch.setattr("spoke_jobs.web.cluster_reads.waits_in", lambda _namespace, read=read: read)
            found = Client(browse(EVERYBODY)).get("/why")["incomplete"]  # one that has read nothing yet
            assert len(found) == len(said)
            assert all(part in sentence for part, sentence in zip(said, found, strict=True))
        assert mine.get("/why")["incomplete"] == []

    def test_failures_are_those_of_a_period(self, ledger: SqlLedger, client: Client) -> None:
        job = self.failed_at(ledger, "ValueError@shop.f")
        self.alter(ledger, job_request, finished_at=clock_after(-2 * 86_400))
        for path in ("/failures", "/why"):
            assert client.get(path)["groups"] == []
            assert client.get(path, within="1h")["period_seconds"] == 3_600
            (group,) = client.get(path, within="7d")["groups"]
            assert (group["job_id"], group["fingerprint"], group["count"]) == (job.id, "ValueError@shop.f", 1)
            assert [error["parameter"] for error in client.get(path, 400, within="2d")["errors"]] == ["within"]

    def test_jobs_are_filtered_and_paged_by_key(self, ledger: SqlLedger, client: Client) -> None:
        jobs = ledger.insert_many([new_job(job_type=f"type_{number % 2}") for number in range(14)])
        wanted = [job.id for job in reversed(jobs) if job.job_type == "type_1"]
        pages = list(client.pages("/jobs", type="type_1", state="waiting", limit=3))
        assert [[job["id"] for job in page["jobs"]] for page in pages] == [wanted[:3], wanted[3:6], wanted[6:]]
        back = list(client.pages("/jobs", "prev", type="type_1", state="waiting", limit=3, before=wanted[5]))
        assert [[job["id"] for job in page["jobs"]] for page in back] == [wanted[6:], wanted[3:6], wanted[:3]]
        assert len(client.get("/jobs")["jobs"]) == 14
        assert "link" not in client.last.headers

    def test_each_place_leads_on_to_a_valid_one(self, ledger: SqlLedger, client: Client) -> None:
        ids = [ledger.insert(new_job()).id for _ in range(3)]
        for place in (0, 1, ids[1], 9223372036854775807):
            for rel in ("next", "prev"):
                list(client.pages("/jobs", rel, after=place, limit=1))
                list(client.pages("/jobs", rel, before=place or 1, limit=1))
        pages = client.pages("/jobs", after=9223372036854775807, limit=2)
        assert [[job["id"] for job in page["jobs"]] for page in pages] == [[], [ids[2], ids[1]], [ids[0]]]

    def test_a_parameter_that_is_not_valid_is_named(self, client: Client) -> None:
        for query, name in (
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
        ):
            problem = client.get(f"/jobs?{query}", 400)
            assert [error["parameter"] for error in problem["errors"]] == [name]
            assert "\x1b" not in client.last.text
            if query in ("type=", "type=%20"):
                assert problem["errors"][0]["detail"] == "Give 1 to 500 characters, not only spaces, and no NUL."

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

    def test_a_skip_that_another_release_wrote(self, ledger: SqlLedger, client: Client) -> None:
        self.add(ledger, "nightly")
        now = Queries(ledger.engine).now()
        for odd, shown in (
            ({"first": "2026-03-01T08:00", "last": "2026-03-01T08:00"}, {"first": "2026-03-01T08:00:00Z"}),
            ({"first": "0001-01-01T00:00:00+01:00"}, {"first": "0002-01-01T00:00:00Z"}),
            ({"last": "9999-12-31T23:59:59-01:00"}, {"last": "9998-12-31T00:00:00Z"}),
            ({"jobId": "seven"}, {"job_id": None}),
            ({"jobId": [7], "detail": None}, {"job_id": None, "detail": ""}),
            ({"detail": 7}, {"detail": "7"}),
            ({"first": 7}, None),
            ({"last": "soon"}, None),
        ):
            self.change(ledger, "nightly", last_skip=skip_to_json(Skip(SkipReason.OVERLAP, now, now)) | odd)
            client.get("/why")
            (found,) = client.get("/schedules")["schedules"]
            if shown is None:
                assert found["last_skip"] is None
            else:
                assert {name: found["last_skip"][name] for name in shown} == shown
            client.browser.cookies.set("spoke-jobs-zone", "America/New_York")
            for page in ("/", "/schedules"):
                assert client.browser.get(page).status_code == 200

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

    def test_an_event_that_may_count_others_jobs_has_no_detail(self, ledger: SqlLedger, mine: Client) -> None:
        job = ledger.insert(new_job(organization_id=1))
        with ledger.engine.begin() as connection:
            audit_events.record(connection, Action.RETRY, "ada", job_id=job.id, detail="with 7 jobs of theirs")
        (event,) = mine.get("/events")["events"]
        assert (event["actor"], event["detail"]) == ("ada", "")

    def test_values_in_schedules_need_permission(self, ledger: SqlLedger, client: Client, browse: Open) -> None:
        self.add(ledger, "nightly")
        definition = self.row(ledger, "nightly").definition
        self.change(ledger, "nightly", definition=definition | {"payload": "a secret"}, error="a secret")
        refused = Client(browse(Viewer(name="eve", organizations=None)))
        (shown,) = refused.get("/schedules")["schedules"]
        assert set(shown["definition"]) == {"jobType", "timing", "payloadVersion", "options"}
        assert shown["next"], "it is read all the same"
        assert "secret" not in refused.last.text
        (shown,) = client.get("/schedules")["schedules"]
        assert (shown["definition"]["payload"], shown["error"]) == ("a secret", "a secret")

    def test_an_address_that_does_not_exist(self, client: Client) -> None:
        for path in ("/nothing", "/jobs/7/nothing", "/jobs/", "/openapi.json/"):
            answer = client.browser.get(API + path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
            assert answer.json()["status"] == 404
        for job_id in ("0", "x", "9223372036854775808"):
            client.get(f"/jobs/{job_id}", 404)
        answer = client.browser.post(f"{API}/jobs")
        assert (answer.status_code, {*answer.headers["allow"].split(", ")}) == (405, {"GET", "HEAD"})
        assert answer.headers["content-type"] == "application/problem+json"
