"""The table of kinds: what follows from a row fits together."""

from __future__ import annotations

import pytest

from spoke_jobs.contract.custom_resources.kinds import CUSTOM, Kind, Role
from spoke_jobs_operator.shell.store.store import Store
from spoke_jobs_operator.shell.watching import streams
from spoke_jobs_operator.shell.watching.limit_sources import OPTIONAL


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Kind.SPOKEJOB, "/apis/jobs.spoke.dev/v1/namespaces/a/spokejobs/x"),
        (Kind.JOB, "/apis/batch/v1/namespaces/a/jobs/x"),
        (Kind.POD, "/api/v1/namespaces/a/pods/x"),
        (Kind.EVENT, "/apis/events.k8s.io/v1/namespaces/a/events/x"),
    ],
)
def test_paths(kind: Kind, path: str) -> None:
    assert kind.path("a", "x") == path
    assert kind.path("a") == path.removesuffix("/x")
    assert kind.path(None) == path.removesuffix("/x").replace("/namespaces/a", "")


def test_a_name_cannot_change_a_path() -> None:
    assert Kind.POD.path("a/b", "../c?d") == "/api/v1/namespaces/a%2Fb/pods/..%2Fc%3Fd"


@pytest.mark.parametrize("kind", CUSTOM)
def test_the_operator_watches_stores_and_may_list_each_of_our_kinds(kind: Kind) -> None:
    assert (kind in streams._KINDS) != (kind in OPTIONAL)
    may = {verb for grant in kind.grants_of(Role.OPERATOR) if not grant.subresource for verb in grant.verbs}
    assert {"list", "watch"} <= may
    assert kind.plural in Store()._see


def test_the_operator_writes_no_spec() -> None:
    """It may delete SpokeJobs, and write the status of each kind."""
    for kind in CUSTOM:
        for grant in kind.grants_of(Role.OPERATOR):
            assert grant.subresource == "status" or not {"create", "update", "patch"} & set(grant.verbs)


def test_a_role_of_kubernetes_has_no_more_than_the_next_higher_one_adds() -> None:
    """Kubernetes adds the rights of `view` to `edit`, and those of `edit` to `admin`: no right is listed twice."""
    for kind in CUSTOM:
        verbs = [
            (verb, grant.subresource)
            for role in (Role.VIEW, Role.EDIT, Role.ADMIN)
            for grant in kind.grants_of(role)
            for verb in grant.verbs
        ]
        assert len(verbs) == len(set(verbs)), kind
