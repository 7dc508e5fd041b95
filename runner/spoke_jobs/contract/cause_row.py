"""The fields of one row of the table of causes (:mod:`spoke_jobs.contract.causes`)."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import partial
from typing import Literal, Self

from spoke_jobs.contract.cause_classes import CauseClass
from spoke_jobs.contract.names import is_object_name

TRIED_AGAIN = "No action is needed. The job is tried again."
_Waits = Literal["", "before an attempt", "for its start"]


def row(
    name: str,
    cause_class: CauseClass,
    meaning: str,
    advice: str,
    knowable: str,
    *,
    waits: _Waits = "",
    meanwhile: str = "",
    reported: bool = False,
) -> tuple[str, CauseClass, str, str, str, _Waits, str, bool]:
    """Return one row of the table. The parameters are the fields of :class:`CauseRow`.

    :param waits: what the job waits for while the cause lasts; empty if it does not wait.
    :param meanwhile: empty for that of a cause that ends by itself or, if the job waits, for the advice.
    """
    meanwhile = meanwhile or (advice if waits else TRIED_AGAIN)
    return name, cause_class, meaning, advice, knowable, waits, meanwhile, reported


reported_row = partial(row, reported=True)
"""Return the row of a cause that a pod's own process may report; see :attr:`CauseRow.reported`."""


class CauseRow(StrEnum):
    """A cause with its class and its texts."""

    cause_class: CauseClass
    meaning: str
    """One sentence: what happened."""
    advice: str
    """What the reader can do about a job that has ended with this cause, or that waits until the cause is removed. `ID`
    stands for the job's id; see :meth:`advise`."""
    meanwhile: str
    """What the reader can do while another attempt follows."""
    knowable: str
    """The first sign of the cause. If the runners differ, the first sign under ``kubernetes``."""
    before_an_attempt: bool
    """Whether the cause prevents the next attempt's creation. The job waits until the cause is removed. If its start
    timeout passes first, the job ends. No budget applies, since there is no attempt to count."""
    waited_for: bool
    """Whether the cause keeps an attempt from starting. The job waits until the cause is removed. If its start timeout
    passes first, the job ends, whatever its budget. A cause that can't be removed ends the job at once."""
    reported: bool
    """Whether the process of a job's pod may report the cause in its termination message. The job's own code may write
    any name there. It must not claim what only the platform can know, such as that the node was lost, because that is
    not charged to the job."""

    def __new__(
        cls,
        value: str,
        cause_class: CauseClass,
        meaning: str,
        advice: str,
        knowable: str,
        waits: _Waits,
        meanwhile: str,
        reported: bool,
    ) -> Self:
        """Create the member of one row."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.cause_class = cause_class
        member.meaning, member.advice, member.knowable = meaning, advice, knowable
        member.meanwhile, member.reported = meanwhile, reported
        member.before_an_attempt = waits == "before an attempt"
        member.waited_for = waits == "for its start"
        return member

    def advise(self, job_id: int | None, *, tried_again: bool = False) -> str:
        """Return the advice with the job's id.

        :param tried_again: whether another attempt follows. If not, the text does not promise one.
        """
        return with_id(self.meanwhile if tried_again else self.advice, job_id)


def with_id(text: str, job_id: int | None, container: str = "") -> str:
    """Return a text of the tables with the job's id in place of `ID`, and the container's name in place of `CONTAINER`.

    What is not known stays as it is.
    """
    if is_object_name(container):
        text = text.replace("CONTAINER", container)
    return text if job_id is None else re.sub(r"\bID\b", str(job_id), text)
