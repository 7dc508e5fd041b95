"""What `why` reads about a job that has no SpokeJob: whether sync holds it back for its type."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.explain.situations import a_job, before

from spoke_jobs.cluster import namespace_reads
from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.shared.api_errors import Forbidden
from spoke_jobs.shared.object_fields import Body

TYPES = "jobs.spoke.dev/allowed-types"


class Api:
    """A namespace with one PodTemplate, and without SpokeJobs."""

    namespace = "shop"

    def __init__(self, template: Body | Exception | None) -> None:
        self._template = template

    def get(self, _name: str) -> None:
        return None

    def config_map(self, _name: str) -> None:
        return None

    def pod_template(self, _name: str) -> Body | None:
        if isinstance(self._template, Exception):
            raise self._template
        return self._template

    def close(self) -> None:
        pass


def view(template: Body | Exception | None, **changes: Any) -> ClusterView:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(namespace_reads.SpokeJobClient, "connect", lambda *_: Api(template))
        return namespace_reads.read_cluster_view(a_job(runner="kubernetes", **changes), "shop")


def only_for(types: str) -> Body:
    return {"metadata": {"annotations": {TYPES: types}}}


def test_a_type_that_the_template_is_not_for_is_seen() -> None:
    assert view(only_for("export, import_*")).excluded
    assert not view(only_for("export, rep*")).excluded
    assert not view({"metadata": {}}).excluded
    assert not view(None).excluded, "the operator says that it is missing"
    assert not view(only_for("export"), submitted_at=before(minutes=1)).excluded, "sync has launched it"


def test_who_may_not_read_templates_reads_the_rest() -> None:
    seen = view(Forbidden(403, "Forbidden", "no"))
    assert (seen.excluded, seen.problem, seen.namespace) == (False, "", "shop")
