"""The application's own tests, with Django's TestCase, whose transaction is rolled back."""

from __future__ import annotations

import json

import pytest
import spoke_app  # noqa: F401 (sets Django up)
from contacts.models import Contact, Upload
from django.db import transaction
from django.test import TestCase
from djangos_transaction import session_in_transaction
from jobs import ImportContacts, import_contacts

from spoke_jobs import JobData, dispatch_job
from spoke_jobs.testing.contexts import fake_context
from spoke_jobs.testing.dispatched import SpokeJobs


class TestUploads(TestCase):
    """Every test starts with an empty database."""

    @pytest.fixture(autouse=True)
    def _dispatched(self, spoke_jobs: SpokeJobs) -> None:
        self.spoke_jobs = spoke_jobs

    def post(self, *names: str) -> int:
        """Upload, and run the after-commit effects. Return the response's status."""
        with self.captureOnCommitCallbacks(execute=True):
            return self.client.post("/uploads", json.dumps(names), content_type="application/json").status_code

    def test_an_upload_is_imported(self) -> None:
        """From the request to the contacts."""
        assert self.post("Ada", "Grace") == 202
        assert self.spoke_jobs.task("notify").payload == "2 names came in"
        self.spoke_jobs.drain()
        assert self.spoke_jobs.job("import_contacts").result == {"loaded": 2}
        assert self.client.get("/contacts").json() == ["Ada", "Grace"]

    def test_a_refused_upload_dispatches_nothing(self) -> None:
        """The upload is refused after the dispatch."""
        assert self.post("Ada", "") == 400
        assert self.spoke_jobs.jobs() == self.spoke_jobs.tasks() == []

    def test_an_inner_block_that_is_rolled_back_takes_its_dispatches_along(self) -> None:
        """Django rolls back to a SAVEPOINT."""
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            for upload_id, fault in ((1, None), (2, LookupError())):
                try:
                    with transaction.atomic():
                        data = JobData("import_contacts", ImportContacts(upload_id=upload_id))
                        dispatch_job(data, session=session_in_transaction())
                        if fault:
                            raise fault
                except LookupError:
                    pass
        assert self.spoke_jobs.job("import_contacts").payload.upload_id == 1

    def test_an_import_may_be_repeated(self) -> None:
        """Run a second attempt, as after a first one that could not record its success."""
        upload = Upload.objects.create(names="Ada,Grace")
        for _ in range(2):
            import_contacts(fake_context(), ImportContacts(upload_id=upload.id))
        assert Contact.objects.count() == 2


def test_outside_of_a_transaction_it_says_so() -> None:
    """In Django's autocommit mode there is no transaction."""
    with pytest.raises(RuntimeError, match="there is no transaction"):
        session_in_transaction()
