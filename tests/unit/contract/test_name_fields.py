"""Names in Kubernetes objects, which others may have written."""

from __future__ import annotations

import pytest

from spoke_jobs.sync.sync_model import cause


@pytest.mark.parametrize(("found", "read"), [("", ""), ("JobError", "JobError"), ("no cause", "Undiagnosable")])
def test_a_cause_is_never_read_as_a_success(found: str, read: str) -> None:
    assert cause({"cause": found}) == read
