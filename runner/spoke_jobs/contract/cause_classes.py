"""The classes of causes. Budgets count them; :mod:`.retry` says what each class is allowed."""

from __future__ import annotations

from enum import StrEnum


class CauseClass(StrEnum):
    """The classes of causes, which retry budgets count."""

    ERROR = "error"
    """The job's own code failed."""
    OOM = "oom"
    """The job exceeded its memory limit."""
    INFRASTRUCTURE = "infrastructure"
    """A process, pod or Job was lost, and nothing explains why."""
    DISRUPTION = "disruption"
    """Maintenance or the node ended it: a drain, a rollout, a lost or busy node. Not charged, up to a high bound."""
    DEPENDENCY = "dependency"
    """The attempt's database did not answer. Not charged, up to a high bound."""
    IMAGE = "image"
    """The container could not be started because of its image, a Secret, a ConfigMap or its entrypoint."""
    TIMEOUT = "timeout"
    """The job exceeded a timeout."""
    INVALID = "invalid"
    """Another attempt cannot succeed, for example with an unknown type or an invalid payload."""
    UNCHARGED = "uncharged"
    """Not counted: for example, the queue was held, or the job asked to be run later."""
