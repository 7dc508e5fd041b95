"""The application's jobs and tasks. SPOKE_APP names this module.

Each function is a thin shell: it reads, calls the modules that do the work, and commits.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import islice

from pydantic import BaseModel, ConfigDict, PositiveInt
from sqlalchemy.orm import Session

from spoke_jobs import JobContext, RetryPolicy, TaskContext, dispatch_task, job, task
from texting import assigning, start_cache, starting
from texting.contacts_csv import open_contacts
from texting.database import lock_campaign, sessions
from texting.exporting import CsvExport, count_contacts, custom_field_names, read_batches
from texting.importing import Place, batches, load_rows, load_source, summarize
from texting.models import ExportFile, Upload, utc_now


class Jobs(StrEnum):
    """Job types: long work with a row in the ledger."""

    IMPORT_CONTACTS = "import_contacts"
    ASSIGN_TEXTERS = "assign_texters"
    START_CAMPAIGN = "start_campaign"
    EXPORT = "export"


class Tasks(StrEnum):
    """Task names: light work."""

    CAMPAIGN_START_CACHE = "campaign_start_cache"
    SEND_MESSAGE = "send_message"


class ImportContacts(BaseModel):
    """Load an upload into its campaign."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_id: PositiveInt
    campaign_id: PositiveInt


class AssignTexters(assigning.Request):
    """Divide a campaign's contacts among texters."""

    campaign_id: PositiveInt


class StartCampaign(BaseModel):
    """Start a campaign."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    campaign_id: PositiveInt


class Export(BaseModel):
    """Write a campaign's contacts and messages to a CSV file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    campaign_id: PositiveInt


class CampaignStartCache(BaseModel):
    """Count a started campaign for its texters' pages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    campaign_id: PositiveInt


class SendMessage(BaseModel):
    """Send one message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    message_id: PositiveInt


def count_again(session: Session, campaign_id: int) -> None:
    """Delete the counts with the session's commit, and count again after it."""
    if start_cache.forget(session, campaign_id):
        dispatch_task(Tasks.CAMPAIGN_START_CACHE, CampaignStartCache(campaign_id=campaign_id), session=session)


@job(Jobs.IMPORT_CONTACTS, payload=ImportContacts)
def import_contacts(ctx: JobContext, payload: ImportContacts) -> None:
    """Load the file in short transactions, each with a checkpoint. The summary and the job's success are one commit."""
    session = ctx.session
    source = load_source(session, payload.upload_id)
    session.rollback()  # end the transaction: reading the file takes a while
    file = open_contacts(source.content)
    ctx.logger.info("upload %d: %d rows in %s", payload.upload_id, file.rows, file.encoding)

    # The export reads the column names here, so they are stored before the first contact.
    session.get_one(Upload, payload.upload_id).custom_fields = list(file.custom_fields)
    place = Place.of(ctx.checkpoint)
    rows = file.read(country=source.country, opted_out=source.opted_out)
    for batch in batches(islice(rows, place.rows, None)):
        ctx.logger.info("loading %d rows after row %d", len(batch), place.rows)
        load_rows(session, payload.campaign_id, ctx.job.uid, batch)
        place = place.after(batch)
        ctx.save(place.to_json())
        session.commit()  # the rows and the checkpoint
        ctx.raise_if_cancelled()  # the next attempt continues after these rows
        ctx.progress(99 * place.rows // file.rows, f"{place.rows:,} of {file.rows:,} rows")

    summary = summarize(session, ctx.job.uid, place.counted).to_json()
    session.rollback()
    with ctx.complete(summary) as last:
        last.get_one(Upload, payload.upload_id).summary = summary
        count_again(last, payload.campaign_id)


@job(Jobs.ASSIGN_TEXTERS, payload=AssignTexters)
def assign_texters(ctx: JobContext, payload: AssignTexters) -> None:
    """Move contacts in short transactions. The last moves and the job's success are one commit.

    The last transaction divides once more, with the campaign locked. Its result includes the messages that texters
    have written in the meantime.
    """
    session = ctx.session
    assigning.begin(session, payload.campaign_id, payload)
    start_cache.forget(session, payload.campaign_id)
    session.commit()

    division = assigning.divide_now(session, payload.campaign_id, payload)
    done, total = 0, len(division.moves)
    ctx.logger.info("campaign %d: %d contacts get another texter", payload.campaign_id, total)
    while len(division.moves) > assigning.BATCH_ROWS:
        session.rollback()  # texters may write between two batches
        for batch in batches(division.moves, assigning.BATCH_ROWS):
            assigning.move(session, payload.campaign_id, batch)
            start_cache.forget(session, payload.campaign_id)
            session.commit()
            ctx.raise_if_cancelled()  # the next attempt continues from what is committed
            done += len(batch)
            ctx.progress(99 * min(done, total) // total, f"{min(done, total):,} of {total:,} contacts")
        division = assigning.divide_now(session, payload.campaign_id, payload)
    with ctx.complete(division.summary()) as last:
        assigning.move(last, payload.campaign_id, division.moves)
        assigning.finish(last, payload.campaign_id, payload)
        count_again(last, payload.campaign_id)


# A retry cannot supply what is missing. Somebody has to add it, and start the campaign again.
@job(Jobs.START_CAMPAIGN, payload=StartCampaign, retry=RetryPolicy(never=(starting.NotStartableError,)))
def start_campaign(ctx: JobContext, payload: StartCampaign) -> None:
    """Start the campaign unless it is started. The start and the dispatch of the count are one commit.

    :raises texting.starting.NotStartableError: if something is missing. It names everything that is missing.
    """
    session = ctx.session
    campaign = lock_campaign(session, payload.campaign_id)
    ready = starting.readiness(session, campaign)
    starts = campaign.started_at is None
    if starts and (missing := starting.lacking(ready)):
        raise starting.NotStartableError(f"campaign {campaign.id} can't be started, it lacks {'; '.join(missing)}")
    with ctx.complete({"contacts": ready.contacts, "texters": ready.texters, "started": starts}) as last:
        if starts:
            campaign.started_at = utc_now()
            count_again(last, campaign.id)


@job(Jobs.EXPORT, payload=Export)
def export(ctx: JobContext, payload: Export) -> None:
    """Create the file, and commit it together with the job's success, so that retries leave one file."""
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


@task(Tasks.CAMPAIGN_START_CACHE, payload=CampaignStartCache)
def campaign_start_cache(ctx: TaskContext, payload: CampaignStartCache) -> None:
    """Count the campaign unless it is counted."""
    start_cache.warm(payload.campaign_id, sessions())


@task(Tasks.SEND_MESSAGE, payload=SendMessage)
def send_message(ctx: TaskContext, payload: SendMessage) -> None:
    """Send the message unless it was sent. A repeated delivery changes nothing."""
    # Imported here, because every job's pod imports this module, and an HTTP client would slow down its start.
    from texting.carrier_client import carrier
    from texting.sending import deliver

    deliver(payload.message_id, sessions(), carrier())
