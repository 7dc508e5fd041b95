"""`spoke-jobs check` against a real API server, by service accounts that may more or less."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.preloaded import completed
from tests.waiting import patient

from spoke_jobs.cluster.kube_environment import Account
from spoke_jobs.cluster.rights import RIGHTS, Right

from .conftest import Namespace, Object

Check = Callable[..., tuple[int, Object]]
APP = "shop_jobs"
JOBS = """
from spoke_jobs import job

@job("report")
def report(ctx, payload): pass

@job("export.*", pod_template="large", resources={"limits": {"memory": "1Gi"}})
def export(ctx, payload): pass

@job("import", locks_queue=True)  # of which queue, each dispatch says
def bring_in(ctx, payload): pass
"""


@pytest.fixture
def check(namespace: Namespace, postgres_ledger_url: str, tmp_path: Path) -> Check:
    """Runs it in a process of its own; gives the exit code and the document."""
    (tmp_path / f"{APP}.py").write_text(JOBS)

    def run(*arguments: str, **environment: str) -> tuple[int, Object]:
        settings = {
            "JOB_RUNNER": "kubernetes",
            "SPOKE_DATABASE_URL": postgres_ledger_url,
            "SPOKE_NAMESPACE": namespace.name,
            "SPOKE_APP": APP,
            "PYTHONPATH": str(tmp_path),
            "HOME": str(tmp_path),
        }
        inherited = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        done = completed(
            "sync",  # it imports the same libraries
            ["-m", "spoke_jobs", "check", "--json", *arguments],
            env=inherited | settings | environment,
            timeout=patient(60),
        )
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


def by_name(document: Object) -> dict[str, Object]:
    return {finding["name"]: finding for finding in document["cluster"]}


def problems(document: Object) -> list[str]:
    return [text for finding in document["cluster"] for text in finding["problems"]]


def make_templates(namespace: Namespace, **labelled: bool) -> None:
    for name, is_labelled in labelled.items():
        labels = {"jobs.spoke.dev/template": "true"} if is_labelled else {}
        template = {"spec": {"containers": [{"name": "job", "image": "none"}]}}
        namespace.create("PodTemplate", name, labels=labels, template=template)


def test_with_every_right_all_is_well(namespace: Namespace, tmp_path: Path, check: Check) -> None:
    make_templates(namespace, default=True, large=True)
    kubeconfig = namespace.account("whole", (*RIGHTS[Account.RUNNER], Right("get", "podtemplates")), tmp_path)
    code, document = check(KUBECONFIG=kubeconfig)
    assert (code, problems(document)) == (0, [])
    seen = by_name(document)
    assert f"system:serviceaccount:{namespace.name}:whole" in seen["server"]["said"]
    assert seen["dry run"]["said"] == "a SpokeJob of each of 3 jobs would be created"
    assert seen["templates"]["said"] == "default, large"
    assert json.loads(namespace.kubectl("get", "spokejobs", "--output=json"))["items"] == [], "a dry run leaves nothing"


def test_each_right_that_is_missing_is_named_and_no_other(namespace: Namespace, tmp_path: Path, check: Check) -> None:
    make_templates(namespace, default=True, large=True)
    account = Account.RUNNER
    needed = RIGHTS[account]
    for number, missing in enumerate(needed):
        name = f"lacks-{number}"
        kubeconfig = namespace.account(name, tuple(right for right in needed if right != missing), tmp_path)
        code, document = check("--as", account, KUBECONFIG=kubeconfig)
        assert code == 1
        who = f"system:serviceaccount:{namespace.name}:{name}"
        role = f"the Role FULLNAME-{account} of the chart spoke-app gives that right"
        assert problems(document) == [f"{who} may not {missing} in namespace {namespace.name}: {role}"]
    code, document = check("--as", account, KUBECONFIG=namespace.account("has-all", needed, tmp_path))
    assert (code, problems(document)) == (0, [])
    assert "may not get podtemplates" in by_name(document)["templates"]["unknown"]


def test_templates_that_are_missing_or_not_for_jobs(namespace: Namespace, check: Check) -> None:
    make_templates(namespace, default=False)
    code, document = check(KUBECONFIG=namespace.kubeconfig)
    assert code == 1
    unlabelled, missing = problems(document)
    assert "default, which import, report would use, lacks the label" in unlabelled
    assert "large, which export.* would use, isn't in namespace" in missing
    make_templates(namespace, large=True)
    namespace.kubectl("annotate", "podtemplate", "large", "jobs.spoke.dev/allowed-types=import, report")
    code, document = check(KUBECONFIG=namespace.kubeconfig)
    assert code == 1
    assert "large, which export.* would use, is not for export.*" in problems(document)[1]


def test_what_admission_would_refuse(namespace: Namespace, check: Check) -> None:
    make_templates(namespace, default=True, large=True)
    namespace.kubectl("create", "quota", "none", "--hard=count/spokejobs.jobs.spoke.dev=0")
    code, document = check(KUBECONFIG=namespace.kubeconfig)
    assert code == 1
    (text,) = problems(document)
    assert "a SpokeJob of export.*, import, report would be refused" in text
    assert "exceeded quota: none" in text


def test_credentials_that_are_not_known(namespace: Namespace, tmp_path: Path, check: Check) -> None:
    kubeconfig = namespace.account("gone", (), tmp_path)
    namespace.kubectl("delete", "serviceaccount", "gone")
    code, document = check(KUBECONFIG=kubeconfig)
    assert code == 1
    (text,) = problems(document)
    assert "rejects the credentials" in text


def test_whether_an_operator_leads(namespace: Namespace, check: Check) -> None:
    make_templates(namespace, default=True, large=True)
    spec = {"holderIdentity": "op-0", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}
    namespace.create("Lease", "op", "coordination.k8s.io/v1", spec=spec)
    code, document = check("--lease", f"{namespace.name}/op", KUBECONFIG=namespace.kubeconfig)
    assert code == 1
    (text,) = problems(document)
    assert text.startswith("no operator leads: the Lease was last renewed")
    assert check(KUBECONFIG=namespace.kubeconfig)[0] == 0, "nothing waits for it, as far as is known"


def test_where_sync_creates_the_spokejobs_no_credentials_are_needed(
    check: Check,
) -> None:
    code, document = check(SPOKE_SUBMIT="sync")
    assert (code, problems(document)) == (0, [])
    assert "needs no credentials" in by_name(document)["server"]["unknown"]
    code, document = check("--as", "sync", SPOKE_SUBMIT="sync")
    assert code == 1
    assert "there are no credentials" in problems(document)[0]
