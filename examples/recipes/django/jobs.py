"""The application's jobs and tasks."""

from __future__ import annotations

from contacts.models import Contact, Upload
from django.db import close_old_connections, connection, transaction
from pydantic import BaseModel

from spoke_jobs import JobContext, TaskContext, job, task


class ImportContacts(BaseModel):
    """Which upload to import."""

    upload_id: int


@job("import_contacts", payload=ImportContacts)
def import_contacts(ctx: JobContext, payload: ImportContacts) -> dict[str, int]:
    """Create a contact for each name of an upload."""
    # Django's writes are not in the transaction of the job's success, so they must be safe to repeat.
    if not connection.in_atomic_block:  # in a test, this would close the test's own connection
        close_old_connections()
    upload = Upload.objects.get(id=payload.upload_id)
    names = upload.names.split(",")
    with transaction.atomic():
        Contact.objects.bulk_create((Contact(upload=upload, name=name) for name in names), ignore_conflicts=True)
    return {"loaded": len(names)}


@task("notify")
def notify(ctx: TaskContext, payload: str) -> None:
    """Log the payload."""
    ctx.logger.warning("%s", payload)
