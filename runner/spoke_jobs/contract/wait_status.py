"""What a SpokeJob waits for, as fields of its status (:mod:`.spokejob`)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from pydantic import Field

from spoke_jobs.contract.api_model import ApiModel
from spoke_jobs.contract.quota_message import QuotaUse
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.shared.object_fields import Moment


class QuotaStatus(ApiModel):
    """A resource of a ResourceQuota that is short."""

    resource: Annotated[str, Field(max_length=100)]
    """For example requests.cpu or count/jobs.batch."""
    requested: Annotated[str, Field(max_length=40)] = ""
    """What the refused pod or Job requests."""
    used: Annotated[str, Field(max_length=40)] = ""
    """What the existing objects requested then."""
    hard: Annotated[str, Field(max_length=40)] = ""
    """The quota's limit."""


class WaitStatus(ApiModel):
    """What the SpokeJob waits for, as fields. The condition's message says the same as text."""

    code: Annotated[str, Field(max_length=40)]
    """Why the job waits: a cause or a reason."""
    holder: Annotated[str, Field(max_length=253)] = ""
    """The SpokeJob that holds the queue's lock."""
    object: Annotated[str, Field(max_length=253)] = ""
    """The queue, organization, PodTemplate, Job, container, volume claim or ResourceQuota that the wait concerns; with
    PodsNotStarting, the cause or reason of the stuck pods; with ClusterFull, the resources that are short."""
    running: Annotated[int | None, Field(ge=0)] = None
    """How many jobs count towards the limit."""
    limit: Annotated[int | None, Field(ge=0)] = None
    """The limit that is reached."""
    source: Annotated[str, Field(max_length=270)] = ""
    """The SpokeLimit, Namespace or setting with the limit or the pause."""
    by: Annotated[str, Field(max_length=200)] = ""
    """Who set the pause."""
    note: Annotated[str, Field(max_length=200)] = ""
    """The reason given for the pause."""
    paused_since: Moment | None = None
    """When the pause began, if that is known."""
    priority: int | None = None
    """The job's priority in admission, if a SpokeLimit caps it."""
    since: Moment | None = None
    """When this wait began."""
    ends_at: Moment | None = None
    """When the attempt ends if it still waits; absent if nothing ends it."""
    retry_at: Moment | None = None
    """When the next try is due, if that is known."""
    quota: Annotated[tuple[QuotaStatus, ...], Field(max_length=10)] = ()
    """The resources of the ResourceQuota that are short, as it was refused first."""

    @classmethod
    def of(cls, wait: Wait, since: datetime) -> WaitStatus:
        """Return a wait's fields, cut to the lengths that the CRD allows."""
        return cls(
            code=wait.code[:40],
            holder=wait.holder[:253],
            object=wait.object[:253],
            running=wait.running,
            limit=wait.limit,
            source=wait.source[:270],
            by=wait.by[:200],
            note=wait.note[:200],
            paused_since=wait.paused_since,
            priority=wait.priority,
            since=since,
            ends_at=wait.ends_at,
            retry_at=wait.retry_at,
            quota=tuple(QuotaStatus(**asdict(use)) for use in wait.quota[:10]),
        )

    def shows(self, wait: Wait) -> bool:
        """Whether the status shows this wait. New counts or another holder of the same lock are not worth a write.

        Nor is the time of a rate's next token: each start of another job changes it.
        """
        if self.code != wait.code[:40]:
            return False
        if self.retry_at != wait.retry_at and wait.code != WaitReason.RATE_LIMIT_REACHED:
            return False
        return not self.source or (self.source, self.note) == (wait.source[:270], wait.note[:200])

    @property
    def names(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """The object that the wait concerns; of a ResourceQuota, also its limits."""
        return self.object, tuple((item.resource, item.hard) for item in self.quota)

    def to_wait(self, *, detail: str = "", position: int | None = None) -> Wait:
        """Return the wait, with the two fields that the status does not hold."""
        fields = self.model_dump(exclude_none=True, exclude={"quota"})
        quota = tuple(QuotaUse(**item.model_dump()) for item in self.quota)
        return Wait(**fields, quota=quota, detail=detail, position=position)
