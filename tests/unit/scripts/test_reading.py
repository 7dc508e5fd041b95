"""What the tests on the cluster read without kubectl."""

from __future__ import annotations

import pytest
from tests.e2e.reading import path_of

SPOKEJOBS = "/apis/jobs.spoke.dev/v1/namespaces/shop/spokejobs"


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ("--namespace shop spokejobs", SPOKEJOBS),
        ("--namespace shop spokejob report-1", f"{SPOKEJOBS}/report-1"),
        ("pod web --namespace=shop", "/api/v1/namespaces/shop/pods/web"),
        ("--namespace shop jobs --selector a=b,c=d", "/apis/batch/v1/namespaces/shop/jobs?labelSelector=a%3Db%2Cc%3Dd"),
        (
            "pods --namespace shop --selector a=b --field-selector=spec.nodeName=n",
            "/api/v1/namespaces/shop/pods?labelSelector=a%3Db&fieldSelector=spec.nodeName%3Dn",
        ),
    ],
)
def test_what_is_asked_often(arguments: str, path: str) -> None:
    assert path_of(arguments.split()) == path


@pytest.mark.parametrize(
    "arguments",
    [
        "nodes",
        "pods",  # of the kubeconfig's namespace
        "--namespace shop secret mail",
        "--namespace shop spokejobs,jobs,pods",
        "--namespace shop pods --all-namespaces",
        "--namespace shop pod web --selector a=b",
        "--namespace shop pods web db",
    ],
)
def test_the_rest_is_left_to_kubectl(arguments: str) -> None:
    assert path_of(arguments.split()) is None
