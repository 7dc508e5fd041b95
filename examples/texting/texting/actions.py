"""What people do with the application: each writes its rows and dispatches its work in the caller's transaction.

Roll back, and neither the rows nor the work exist. The web application and the demonstration both act through here.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from spoke_jobs import JobData, JobRequest, dispatch_job, dispatch_task
from texting.contacts_csv import open_contacts
from texting.jobs import Export, ImportContacts, Jobs, SendMessage, Tasks
from texting.models import Campaign, Upload
from texting.sending import write_messages


def upload_contacts(session: Session, campaign: Campaign, content: bytes) -> tuple[Upload, JobRequest]:
    """Keep a contacts file and have it imported.

    :raises texting.contacts_csv.RefusedFile: if it isn't one: whoever sent it learns so at once, not from a job.
    """
    open_contacts(content)
    upload = Upload(campaign_id=campaign.id, content=content)
    session.add(upload)
    session.flush()
    payload = ImportContacts(upload_id=upload.id, campaign_id=campaign.id)
    return upload, dispatch_job(_contacts_job(Jobs.IMPORT_CONTACTS, campaign, payload), session=session)


def request_export(session: Session, campaign: Campaign) -> JobRequest:
    """Have the campaign's contacts and messages written to a file."""
    return dispatch_job(_contacts_job(Jobs.EXPORT, campaign, Export(campaign_id=campaign.id)), session=session)


def start_sending(session: Session, campaign: Campaign, texter: str, limit: int) -> int:
    """Write to the first contacts, at most ``limit``, that nobody has written to; how many those are."""
    messages = write_messages(session, campaign.id, texter, limit)
    for message in messages:
        dispatch_task(Tasks.SEND_MESSAGE, SendMessage(message_id=message.id), session=session)
    return len(messages)


def _contacts_job(job_type: Jobs, campaign: Campaign, payload: ImportContacts | Export) -> JobData:
    return JobData(
        job_type=job_type,
        payload=payload,
        # One at a time per campaign: an export made during an import would hold half of it.
        queue_name=f"{campaign.id}:contacts",
        locks_queue=True,
        organization_id=campaign.organization_id,
        campaign_id=campaign.id,
    )
