"""The dashboard's page *Cluster*, for a namespace that the test makes up."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.contract.dashboard_scene import EVERYBODY, HOSTILE, DashboardScene, Open
from tests.contract.ledger import new_job

from spoke_jobs.cluster.cluster_view import SpokeJobWaits, WaitingSpokeJob
from spoke_jobs.cluster.namespace_view import NamespaceView, template_view
from spoke_jobs.contract.operator_state import OperatorState, Publication
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.ledger.sql_ledger import SqlLedger

Cluster = Callable[[NamespaceView, SpokeJobWaits], None]
LOCKED = Wait(WaitReason.QUEUE_LOCKED, holder="import-7-0a1b2c3d", object="imports")
FULL = Wait(WaitReason.CLUSTER_FULL, object="cpu")
WAITING = tuple(
    WaitingSpokeJob(number, "", wait, None, queue="imports") for number, wait in ((8, LOCKED), (9, LOCKED), (10, FULL))
)
WAITS = SpokeJobWaits(WAITING, oldest_unfinished=datetime.now(UTC) - timedelta(hours=1))


def unhandled(ago_seconds: float) -> SpokeJobWaits:
    """What is read if no SpokeJob says what it waits for: they run, or no operator has written a status."""
    return SpokeJobWaits(oldest_unfinished=datetime.now(UTC) - timedelta(seconds=ago_seconds))


def published(ago_seconds: float = 5.0, operator: str = "spoke-operator-7d", **state: Any) -> Publication:
    at = datetime.now(UTC) - timedelta(seconds=ago_seconds)
    return Publication(at, operator, OperatorState.read(state))


def template(name: str, *, labeled: bool = True, types: str | None = None, container: str = "job") -> dict[str, Any]:
    annotations = {} if types is None else {"jobs.spoke.dev/allowed-types": types}
    labels = {"jobs.spoke.dev/template": "true"} if labeled else {}
    env = [{"name": "KEY", "value": "a secret value"}]
    requests = {"memory": "1Gi", "cpu": 1}
    containers = [{"name": container, "image": "shop:7", "env": env, "resources": {"requests": requests}}]
    return {
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "template": {"spec": {"containers": containers}},
    }


class TestCluster(DashboardScene):
    """The operator, sync, and what SpokeJobs wait for."""

    @pytest.fixture
    def cluster(self, monkeypatch: pytest.MonkeyPatch) -> Cluster:
        """Makes up what pages read of the namespace."""

        def cluster(view: NamespaceView, waits: SpokeJobWaits) -> None:
            monkeypatch.setattr("spoke_jobs.web.cluster_reads.namespace_in", lambda _namespace: view)
            monkeypatch.setattr("spoke_jobs.web.cluster_reads.waits_in", lambda _namespace: waits)

        return cluster

    def test_without_a_cluster(self, browse: Open, cluster: Cluster) -> None:
        problem = "the Kubernetes client is not installed"
        cluster(NamespaceView(problem=problem), SpokeJobWaits(problem=problem))
        page = browse(EVERYBODY).get("/cluster").text
        assert page.count(f"The cluster could not be read: {problem}") == 1
        assert "No state of an operator can be shown" in page
        assert "No SpokeJob is known to wait" in page
        assert "check that the spoke-operator runs" not in page, "nobody knows"
        self.assert_for_everybody(page)

    def test_what_the_operator_publishes(self, browse: Open, cluster: Cluster) -> None:
        state = {
            "limits": {"running": 100},
            "namespaceLimits": {
                "all": {"value": 20, "source": "SpokeLimit shop"},
                "queue:imports": {"value": 3, "source": "SpokeLimit imports"},
                "maxPriority": {"value": 5, "source": "SpokeLimit shop"},
                "weight": 2,
            },
            "rates": [{"scope": "type:mail", "rate": "5/s", "source": "SpokeLimit mail", "tokens": 4}],
            "paused": [
                {
                    "scope": "queue:exports",
                    "source": "SpokeLimit exports",
                    "by": "grace",
                    "note": "the partner is down",
                    "since": "2026-01-01T00:00:00+00:00",
                }
            ],
            "running": {"all": 31, "namespace": 12},
            "queues": {"imports": 3},
            "waiting": 7,
            "starting": 2,
            "holds": [{"reason": "ClusterFull", "template": "large", "short": "cpu", "since": "2026-01-01T00:00:00Z"}],
            "turns": [f"import-{number}" for number in range(30)],
        }
        cluster(NamespaceView("shop", published(**state)), SpokeJobWaits())
        page = browse(EVERYBODY).get("/cluster").text
        assert "The replica spoke-operator-7d published the state of the namespace shop" in page
        for what, number in (
            ("Running or starting in this namespace", 12),
            ("Running or starting in all namespaces of the operator", 31),
            ("Waiting for admission in this namespace", 7),
            ("Starting in this namespace", 2),
        ):
            assert f"<dt>{what}</dt><dd>{number}</dd>" in page
        assert self.table(page, "limits") == [
            ["running jobs of all its namespaces", "100", "31", "SPOKE_OPERATOR_MAX_RUNNING"],
            ["running jobs of the namespace", "20", "12", "SpokeLimit shop"],
            ["queue:imports", "3", "3", "SpokeLimit imports"],
            ["highest priority that counts", "5", "", "SpokeLimit shop"],
            ["weight of the namespace in the order of turns", "2", "", ""],
        ]
        assert '<th scope="row">type:mail</th><td>5/s</td><td>4</td>' in page
        (pause,) = self.table(page, "pauses")
        assert pause[:3] == ["queue:exports", "the partner is down", "grace"]
        assert pause[3].endswith(" ago")
        assert pause[4:] == ["", "SpokeLimit exports"]
        (hold,) = self.table(page, "holds")
        assert hold[:3] == ["ClusterFull", WaitReason.CLUSTER_FULL.meaning, "PodTemplate large; short: cpu"]
        assert "<li>import-0</li>" in page
        assert "<li>import-29</li>" not in page
        assert "More follow." in page
        self.assert_for_everybody(page)

    def test_nodes_and_missing_standby_pods(self, browse: Open, cluster: Cluster) -> None:
        nodes = tuple((f"node-{number}", 60 - number) for number in range(51))
        standby = [{"template": "large", "hindrance": "NoAnswer"}, {"template": "gone", "problem": "its <b> is wrong"}]
        cluster(NamespaceView("shop", published(standby=standby)), SpokeJobWaits(nodes=nodes))
        page = browse(EVERYBODY).get("/cluster").text
        assert "<dt>node-0</dt><dd>60</dd>" in page
        assert "<dt>node-49</dt>" in page
        assert "node-50" not in page
        assert "These are the 50 busiest nodes; there are more." in page
        no_answer = "they do not listen yet, because the import takes long, or a NetworkPolicy keeps the operator away"
        why = f"those that start are not ready ({no_answer})"
        assert f'<dt>large</dt><dd class="message">{why}</dd>' in page
        assert "its &lt;b&gt; is wrong" in page
        self.assert_for_everybody(page)
        cluster(NamespaceView("shop", published()), SpokeJobWaits())
        page = browse(EVERYBODY).get("/cluster").text
        assert "standby" not in page, "nor if an operator of an earlier release does not count them"
        assert "by node" not in page

    def test_how_many_standby_pods_each_podtemplate_has(self, browse: Open, cluster: Cluster) -> None:
        pools = [{"template": "large", "free": 1200, "starting": 1, "assigned": 3}, {"template": "<b>"}]
        state = replace(published(standbyPods=pools), leads_since=datetime.now(UTC) - timedelta(hours=2, minutes=1))
        cluster(NamespaceView("shop", state), SpokeJobWaits())
        page = browse(EVERYBODY).get("/cluster").text
        assert self.table(page, "standby-pods") == [["large", "1,200", "1", "3"], ["&lt;b&gt;", "0", "0", "0"]]
        assert re.search(r"It became the leader <time [^>]+>2 h(?: 1 min)? ago</time>", page)
        self.assert_for_everybody(page)

    def test_spokejobs_by_reason(self, browse: Open, cluster: Cluster) -> None:
        cluster(NamespaceView("shop", published()), WAITS)
        page = browse(EVERYBODY).get("/cluster").text
        locked = "<strong>2</strong></a> wait (QueueLocked): SpokeJob import-7-0a1b2c3d has the queue &#39;imports&#39;"
        assert f'<a href="/jobs?state=waiting&amp;queue=imports">{locked}' in page, "job 8 may have started by then"
        assert '<a href="/jobs/10"><strong>1</strong></a> waits (ClusterFull): no node has room: cpu is short' in page
        assert page.index(locked) < page.index("no node has room"), "the largest group first"

    def test_reasons_that_the_operator_counts_take_the_place_of_spokejobs_that_cannot_be_read(
        self, browse: Open, cluster: Cluster
    ) -> None:
        state = published(reasons={"QueueLocked": 4, "OfAnotherRelease": 1})
        cluster(NamespaceView("shop", state), SpokeJobWaits(problem="403 Forbidden: no"))
        page = browse(EVERYBODY).get("/cluster").text
        assert "SpokeJobs could not be read: 403 Forbidden: no" in page
        assert f"<strong>4</strong> wait (QueueLocked): {WaitReason.QUEUE_LOCKED.meaning.rstrip('.')}" in page
        assert "<strong>1</strong> waits (OfAnotherRelease)" in page

    def test_an_absent_operator(self, browse: Open, cluster: Cluster) -> None:
        """It publishes nothing without unfinished jobs, so its silence means something only if there is one."""
        advice = "check that the spoke-operator runs"
        refused, just_begun = SpokeJobWaits(problem="403 Forbidden: no"), unhandled(ago_seconds=10)
        for ago_seconds, waits, silent in (
            *((None, WAITS, True), (600, WAITS, True), (60, WAITS, False)),
            *((None, SpokeJobWaits(), False), (600, SpokeJobWaits(), False), (600, refused, False)),
            # no SpokeJob says that it waits: there is no operator, or it ended while they ran
            *((None, unhandled(ago_seconds=300), True), (600, unhandled(ago_seconds=300), True)),
            # after an idle period, pages may still share its state when they read the first SpokeJob
            *(
                (None, just_begun, False),
                (3600, just_begun, False),
                (3600, replace(just_begun, waiting=WAITING), False),
            ),
        ):
            state = None if ago_seconds is None else published(ago_seconds)
            cluster(NamespaceView("shop", state), waits)
            assert (advice in browse(EVERYBODY).get("/cluster").text) is silent, (ago_seconds, waits)
        cluster(NamespaceView("shop", published(ago_seconds=600, reasons={"QueueLocked": 4})), refused)
        assert "The operator is silent" in browse(EVERYBODY).get("/cluster").text
        cluster(NamespaceView("shop", state_problem="403 Forbidden: no"), WAITS)
        page = browse(EVERYBODY).get("/cluster").text
        assert advice not in page
        assert "The operator&#39;s state could not be read: 403 Forbidden: no" in page

    def test_an_old_state_is_not_shown_as_the_present_one(self, browse: Open, cluster: Cluster) -> None:
        cluster(NamespaceView("shop", published(ago_seconds=7230)), SpokeJobWaits())
        page = browse(EVERYBODY).get("/cluster").text
        (note,) = re.findall(r'<p class="note">(.*?)</p>', page)
        assert "pauses and limits below are those that the operator published <time" in note
        assert "2 h ago</time>" in note
        assert "They may have changed" in note
        assert page.index(note) < page.index('id="pauses"') < page.index('id="limits"')
        assert "Nothing was paused." in page
        assert "There was no limit and no rate." in page
        cluster(NamespaceView("shop", published(ago_seconds=60)), SpokeJobWaits())
        page = browse(EVERYBODY).get("/cluster").text
        assert "may have changed" not in page
        assert "Nothing is paused." in page
        assert "There is no limit and no rate." in page

    def test_an_installation_without_a_cluster_is_told_so(self, browse: Open, cluster: Cluster) -> None:
        """Not that something could not be read, and not what the chart creates."""
        problem = "SPOKE_NAMESPACE is not set"
        cluster(NamespaceView(problem=problem, is_configured=False), SpokeJobWaits(problem=problem))
        page = browse(EVERYBODY).get("/cluster").text
        assert "No cluster is configured here." in page
        assert "set <code>SPOKE_NAMESPACE</code> for <code>spoke-jobs web</code>" in page
        for absent in ("could not be read", "spoke-app", "No state of an operator"):
            assert absent not in page
        assert "Due jobs that have no SpokeJob yet: 0." in page, "the ledger knows that"

    def test_pod_templates(self, browse: Open, cluster: Cluster) -> None:
        bodies = (
            template("default"),
            template("large", types="import_*, export"),
            template("other", labeled=False),
            template("web", container="web"),
        )
        cluster(NamespaceView("shop", templates=tuple(map(template_view, bodies))), SpokeJobWaits())
        page = browse(EVERYBODY).get("/cluster").text
        default, large, other, web = self.table(page, "templates")
        assert default == ["default", "shop:7", "1 cpu, 1Gi memory", "any", ""]
        assert large == ["large", "shop:7", "1 cpu, 1Gi memory", "import_*, export", ""]
        assert other[4].startswith("It lacks the label jobs.spoke.dev/template")
        assert web[1:4] == ["", "", "any"]
        assert "no container named" in web[4]
        assert "a secret value" not in page

    def test_a_pod_template_whose_attempts_are_held_back(self, browse: Open, cluster: Cluster) -> None:
        """The culprit has the problem in its own row, and not only what is held back in a table above."""
        holds = [
            {"reason": "PodsNotStarting", "template": "reports", "obstacles": ["ImageUnavailable"], "pods": 5},
            {"reason": "QuotaExceeded", "template": "large", "quota": "team-shop"},
            {"reason": "WebhookAway", "since": "2026-01-01T00:00:00Z"},
        ]
        bodies = (template("default"), template("large", labeled=False), template("reports"))
        views = tuple(map(template_view, bodies))
        cluster(NamespaceView("shop", published(holds=holds), views), SpokeJobWaits())
        default, large, reports = self.table(browse(EVERYBODY).get("/cluster").text, "templates")
        assert default[-1] == ""
        assert large[-1].startswith("It lacks the label")
        assert large[-1].endswith("; Attempts are held back: QuotaExceeded (ResourceQuota team-shop)")
        assert reports[-1] == "Attempts are held back: PodsNotStarting (ImageUnavailable)"

    def test_jobs_that_wait_for_sync(
        self, ledger: SqlLedger, browse: Open, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cluster(NamespaceView("shop"), SpokeJobWaits())
        later = datetime.now(UTC) + timedelta(hours=1)
        ledger.insert_many([new_job(runner="kubernetes") for _ in range(3)])
        ledger.insert_many([new_job(), new_job(runner="kubernetes", run_after=later)])
        page = browse(EVERYBODY).get("/cluster").text
        assert "Due jobs that have no SpokeJob yet: 3. The oldest of these was due" in page
        monkeypatch.setattr("spoke_jobs.ledger.reading.dashboard_queries.CAP", 2)
        assert "Due jobs that have no SpokeJob yet: 2+." in browse(EVERYBODY).get("/cluster").text

    def test_jobs_that_wait_for_sync_are_looked_for_among_the_oldest(
        self, ledger: SqlLedger, browse: Open, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Many jobs may wait for their time."""
        cluster(NamespaceView("shop"), SpokeJobWaits())
        later = datetime.now(UTC) + timedelta(hours=1)
        for run_after in (later, None, later, None):
            ledger.insert(new_job(runner="kubernetes", run_after=run_after))
        for most, number in ((5, "2."), (3, "1+."), (1, "0+.")):
            monkeypatch.setattr("spoke_jobs.ledger.reading.dashboard_queries.EXAMINED", most)
            page = browse(EVERYBODY).get("/cluster").text
            assert f"Due jobs that have no SpokeJob yet: {number}" in page
            assert ("The oldest of these was due" in page) is (number != "0+.")

    def test_hostile_texts_are_inert(self, browse: Open, cluster: Cluster) -> None:
        state = {
            "namespaceLimits": {HOSTILE: {"value": 1, "source": HOSTILE}},
            "rates": [{"scope": HOSTILE, "rate": HOSTILE, "source": HOSTILE, "tokens": 1}],
            "paused": [dict.fromkeys(("scope", "source", "by", "note", "since", "until"), HOSTILE)],
            "holds": [dict.fromkeys(("reason", "template", "short", "quota", "cause", "since"), HOSTILE)],
            "turns": [HOSTILE],
            "standby": [dict.fromkeys(("template", "problem", "failure", "retryAt", "hindrance"), HOSTILE)],
            "reasons": {HOSTILE: 1},
        }
        wait = Wait(HOSTILE, object=HOSTILE, detail=HOSTILE)
        waits = SpokeJobWaits((WaitingSpokeJob(1, HOSTILE, wait, None),), more=True, nodes=((HOSTILE, 1),))
        templates = (template_view(template(HOSTILE, types=HOSTILE)),)
        view = NamespaceView(HOSTILE, published(operator=HOSTILE, **state), templates, templates_problem=HOSTILE)
        for each in (waits, SpokeJobWaits(problem=HOSTILE)):
            cluster(view, each)
            page = browse(EVERYBODY).get("/cluster").text
            assert "&lt;script&gt;" in page
            self.assert_inert(page)
            self.assert_for_everybody(page)
