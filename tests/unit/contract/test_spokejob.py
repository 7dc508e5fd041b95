"""What the operator copies from a SpokeJob's spec to its pod's."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

from pydantic import Field

from spoke_jobs.contract.spokejob import PodSpecField, SpokeJobSpec


class Spec(SpokeJobSpec):
    """With an option that the pod's spec takes unchanged."""

    runtime: Annotated[str | None, Field(max_length=60), PodSpecField("runtimeClassName")] = None


def test_a_marked_field_is_the_pod_s_own_where_somebody_has_chosen_it() -> None:
    chosen = Spec(uid=uuid4(), request_id=1, job_type="export", runtime="gvisor")
    assert chosen.pod_fields() == {"runtimeClassName": "gvisor"}
    assert Spec(uid=uuid4(), request_id=1, job_type="export").pod_fields() == {}
