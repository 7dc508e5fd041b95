"""What runs in the background, declared for spoke-jobs: SPOKE_APP names this module.

Each function is a thin shell: it reads, hands to the modules that do the work, and commits.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, PositiveInt

from spoke_jobs import JobContext, TaskContext, job, task
from texting.contacts_csv import Reason, open_contacts
from texting.database import sessions
from texting.exporting import CsvExport, count_contacts, custom_field_names, read_batches
from texting.importing import batches, load_rows, load_source, summarise
from texting.models import ExportFile, Upload


class Jobs(StrEnum):
    """Long work, tracked in the JobRequest table."""

    IMPORT_CONTACTS = "import_contacts"
    EXPORT = "export"


class Tasks(StrEnum):
    """Light work, fire and forget."""

    SEND_MESSAGE = "send_message"


class ImportContacts(BaseModel):
    """Load an upload into its campaign."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_id: PositiveInt
    campaign_id: PositiveInt


class Export(BaseModel):
    """Write a campaign's contacts and messages to a CSV file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    campaign_id: PositiveInt


class SendMessage(BaseModel):
    """Send one message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    message_id: PositiveInt


@job(Jobs.IMPORT_CONTACTS, payload=ImportContacts)
def import_contacts(ctx: JobContext, payload: ImportContacts) -> None:
    """Load the file in short transactions; the summary and the job's success are committed as one."""
    session = ctx.session
    source = load_source(session, payload.upload_id)
    session.rollback()  # reading the file takes a while, and holds no lock
    file = open_contacts(source.content)
    ctx.logger.info("upload %d: %d rows in %s", payload.upload_id, file.rows, file.encoding)

    # The export looks here for the names of the columns, so they are there before the first contact is.
    session.get_one(Upload, payload.upload_id).custom_fields = list(file.custom_fields)
    counted: Counter[Reason | None] = Counter()
    for batch in batches(file.read(country=source.country, opted_out=source.opted_out)):
        counted += load_rows(session, payload.campaign_id, ctx.job.uid, batch)
        session.commit()
        ctx.raise_if_cancelled()  # what is committed is found by the next attempt
        done = batch[-1].row
        ctx.progress(99 * done // file.rows, f"{done:,} of {file.rows:,} rows")

    summary = summarise(session, ctx.job.uid, counted).to_json()
    session.rollback()
    with ctx.complete(summary) as last:
        last.get_one(Upload, payload.upload_id).summary = summary


@job(Jobs.EXPORT, payload=Export)
def export(ctx: JobContext, payload: Export) -> None:
    """Make the file, then commit it together with the job's success: a repeated attempt leaves one file."""
    session = ctx.session
    total = count_contacts(session, payload.campaign_id)
    file = CsvExport(custom_field_names(session, payload.campaign_id))
    session.rollback()
    for batch in read_batches(session, payload.campaign_id):
        ctx.raise_if_cancelled()
        file.add(batch)
        ctx.progress(99 * min(file.rows, total) // total, f"{file.rows:,} of {total:,} contacts")
    finished = file.finish()
    with ctx.complete({"rows": finished.rows, "sha256": finished.sha256}) as last:
        last.add(
            ExportFile(
                campaign_id=payload.campaign_id,
                job_uid=ctx.job.uid,
                content=finished.content,
                rows=finished.rows,
            )
        )


@task(Tasks.SEND_MESSAGE, payload=SendMessage)
def send_message(ctx: TaskContext, payload: SendMessage) -> None:
    """Send it unless it has been sent: delivered twice, it does no harm."""
    # Imported here since a job's pod imports this module, and an HTTP client would slow down each job's start.
    from texting.carrier_client import carrier
    from texting.sending import deliver

    deliver(payload.message_id, sessions(), carrier())
