"""The application's actions. Each writes rows and dispatches work in the caller's transaction.

After a rollback neither the rows nor the work exist. The web application and the demonstration use these functions.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from spoke_jobs import JobData, JobRequest, dispatch_job, dispatch_task
from texting.assigning import TexterShare
from texting.contacts_csv import open_contacts
from texting.database import lock_campaign
from texting.jobs import (
    AssignTexters,
    CampaignStartCache,
    Export,
    ImportContacts,
    Jobs,
    SendMessage,
    StartCampaign,
    Tasks,
    count_again,
)
from texting.models import Campaign, Contact, OptOut, Upload
from texting.sending import write_messages


def upload_contacts(session: Session, campaign: Campaign, content: bytes) -> tuple[Upload, JobRequest]:
    """Store a contacts file, and dispatch its import.

    :raises texting.contacts_csv.RefusedFile: if it is not a contacts file. The sender gets this error immediately.
    """
    open_contacts(content)
    upload = Upload(campaign_id=campaign.id, content=content)
    session.add(upload)
    session.flush()
    payload = ImportContacts(upload_id=upload.id, campaign_id=campaign.id)
    return upload, dispatch_job(_contacts_job(Jobs.IMPORT_CONTACTS, campaign, payload), session=session)


def request_assignment(
    session: Session, campaign: Campaign, texters: Iterable[TexterShare], *, dynamic: bool = False
) -> JobRequest:
    """Dispatch the division of contacts. An unlisted texter keeps only contacts already written to."""
    payload = AssignTexters(campaign_id=campaign.id, texters=tuple(texters), dynamic=dynamic)
    return dispatch_job(_contacts_job(Jobs.ASSIGN_TEXTERS, campaign, payload), session=session)


def request_start(session: Session, campaign: Campaign) -> JobRequest:
    """Dispatch the campaign's start. It follows the imports and assignments that were dispatched before."""
    payload = StartCampaign(campaign_id=campaign.id)
    return dispatch_job(_contacts_job(Jobs.START_CAMPAIGN, campaign, payload), session=session)


def request_export(session: Session, campaign: Campaign) -> JobRequest:
    """Dispatch an export of the campaign's contacts and messages."""
    return dispatch_job(_contacts_job(Jobs.EXPORT, campaign, Export(campaign_id=campaign.id)), session=session)


class NotStartedError(Exception):
    """The campaign is not started, so nobody may write to its contacts."""


def start_sending(session: Session, campaign: Campaign, texter: str, limit: int) -> int:
    """Write to the texter's first unwritten contacts, at most ``limit``. Return their number.

    :raises NotStartedError: if the campaign is not started.
    :raises texting.sending.NotATexterError: if its contacts are assigned to other texters.
    """
    if lock_campaign(session, campaign.id).started_at is None:
        raise NotStartedError(f"campaign {campaign.id} isn't started")
    messages = write_messages(session, campaign.id, texter, limit)
    for message in messages:
        dispatch_task(Tasks.SEND_MESSAGE, SendMessage(message_id=message.id), session=session)
    return len(messages)


def opt_out(session: Session, organization_id: int, cell: str) -> None:
    """Record that a number must not be texted again for this organization.

    :raises sqlalchemy.exc.IntegrityError: if that is recorded already.
    """
    session.add(OptOut(organization_id=organization_id, cell=cell))
    session.flush()
    having = select(Campaign.id).join(Contact, Contact.campaign_id == Campaign.id)
    having = having.where(Campaign.organization_id == organization_id, Contact.cell == cell)
    # Sort by id: two requests that lock the same campaigns in different orders could deadlock.
    for campaign_id in session.scalars(having.order_by(Campaign.id)).all():
        count_again(session, campaign_id)


def dispatch_count(campaign_id: int) -> None:
    """Dispatch the count for the texters' pages, after a page found no count."""
    dispatch_task(Tasks.CAMPAIGN_START_CACHE, CampaignStartCache(campaign_id=campaign_id))


def _contacts_job(job_type: Jobs, campaign: Campaign, payload: BaseModel) -> JobData:
    return JobData(
        job_type=job_type,
        payload=payload,
        # One job at a time for each campaign: an export or assignment during an import would be incomplete.
        queue_name=f"{campaign.id}:contacts",
        locks_queue=True,
        organization_id=campaign.organization_id,
        campaign_id=campaign.id,
    )
