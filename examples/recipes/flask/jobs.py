"""The application's jobs and tasks. SPOKE_APP names this module. They need no Flask application."""

from __future__ import annotations

from database import Contact, Upload
from pydantic import BaseModel

from spoke_jobs import JobContext, TaskContext, job, task


class ImportContacts(BaseModel):
    """Which upload to import."""

    upload_id: int


@job("import_contacts", payload=ImportContacts)
def import_contacts(ctx: JobContext, payload: ImportContacts) -> None:
    """Create a contact for each name of an upload."""
    # Use ctx.session, not db.session: only the commits of ctx.session fail once the claim is lost.
    upload = ctx.session.get_one(Upload, payload.upload_id)
    names = upload.names.split(",")
    with ctx.complete({"loaded": len(names)}) as session:
        session.add_all(Contact(upload_id=upload.id, name=name) for name in names)


@task("notify")
def notify(ctx: TaskContext, payload: str) -> None:
    """Log the payload."""
    ctx.logger.warning("%s", payload)
