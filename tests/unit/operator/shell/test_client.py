from __future__ import annotations

import pytest

from spoke_jobs_operator.shell.client import Kind


@pytest.mark.parametrize(
    ("namespace", "name", "path"),
    [
        ("ns", "a.b-1", "/api/v1/namespaces/ns/podtemplates/a.b-1"),
        ("ns", "../pods/x", "/api/v1/namespaces/ns/podtemplates/..%2Fpods%2Fx"),
        ("ns", "a?b#c", "/api/v1/namespaces/ns/podtemplates/a%3Fb%23c"),
        ("n/s", None, "/api/v1/namespaces/n%2Fs/podtemplates"),
        (None, None, "/api/v1/podtemplates"),
    ],
)
def test_a_name_stays_one_segment_of_its_path(namespace: str | None, name: str | None, path: str) -> None:
    assert Kind.TEMPLATE.path(namespace, name) == path
