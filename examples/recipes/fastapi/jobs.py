"""The application's jobs and tasks: what SPOKE_APP names."""

from __future__ import annotations

from database import Contact, Notice, Upload, sessions
from pydantic import BaseModel

from spoke_jobs import JobContext, TaskContext, job, task


class ImportContacts(BaseModel):
    """Which upload to import."""

    upload_id: int


@job("import_contacts", payload=ImportContacts)
async def import_contacts(ctx: JobContext, payload: ImportContacts) -> None:
    """Make contacts of an upload's names."""
    # A job's session is a plain one, in async jobs too: its commits count only while the job holds its claim.
    upload = ctx.session.get_one(Upload, payload.upload_id)
    names = upload.names.split(",")
    with ctx.complete({"loaded": len(names)}) as session:
        session.add_all(Contact(upload_id=upload.id, name=name) for name in names)


@task("notify")
def notify(_ctx: TaskContext, payload: str) -> None:
    """Leave a line."""
    with sessions.begin() as session:
        session.add(Notice(text=payload))
