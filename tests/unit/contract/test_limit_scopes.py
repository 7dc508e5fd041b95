"""What limits know of a job is the same wherever it is read: in a row, in a SpokeJob, and in a subject."""

from __future__ import annotations

from dataclasses import fields
from typing import Any
from uuid import UUID

import pytest
from tests.contract.ledger import new_job

from spoke_jobs.contract.custom_resources.spokejob import SpokeJobSpec
from spoke_jobs.contract.limit_scopes import ALL_KINDS, DIMENSIONS, Dimension, Scope, ScopeKind, Subject
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobRequest

VALUES: dict[str, Any] = {dimension.field: 7 if dimension.is_number else "a.b" for dimension in DIMENSIONS}
each_dimension = pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda each: str(each.kind))


def test_the_table_names_what_a_subject_a_row_and_a_spokejob_have() -> None:
    assert Subject._fields == tuple(dimension.field for dimension in DIMENSIONS)
    assert set(Subject._fields) <= {field.name for field in fields(JobRequest)} & set(job_request.c.keys())
    assert {dimension.spec_field for dimension in DIMENSIONS} <= SpokeJobSpec.model_fields.keys()
    assert Subject() == tuple(dimension.none for dimension in DIMENSIONS)
    assert {kind for dimension in DIMENSIONS for kind in dimension.kinds} == ALL_KINDS - {ScopeKind.ALL}


@each_dimension
def test_a_row_and_its_spokejob_are_the_same_subject(dimension: Dimension) -> None:
    value = VALUES[dimension.field]
    others = {other.spec_field: VALUES[other.field] for other in DIMENSIONS if other.spec_field != "job_type"}
    spec = SpokeJobSpec(uid=UUID(int=1), request_id=1, job_type="a.b", **others)
    assert getattr(Subject.of_spec(spec), dimension.field) == value
    assert Subject.of(new_job(**VALUES)) == Subject.of_spec(spec)


@each_dimension
def test_each_form_applies_to_jobs_that_have_the_value_and_to_no_others(dimension: Dimension) -> None:
    value = VALUES[dimension.field]
    named = str(Scope(dimension.kind, str(value)))
    others = Subject(**{name: other for name, other in VALUES.items() if name != dimension.field})
    found = {scope for _, scope, _ in Subject(**VALUES).scopes(dimension.kinds)}
    assert {named, *([str(dimension.each)] if dimension.each else [])} <= found
    if dimension.field != "job_type":  # each job has one
        assert not any(kind in dimension.kinds for kind, _, _ in others.scopes())
