"""The errors of calls to the Kubernetes API server, for every client in the product.

::

    ApiError
    ├── ApiUnavailable          any other call would fail too; retry later
    │   ├── NoAnswer            no connection, or a timeout (status 0)
    │   │   └── StreamSilent    an open stream brought nothing for too long
    │   ├── TooManyRequests     429
    │   └── ServerError         5xx
    ├── Unauthorized            401
    ├── Forbidden               403
    ├── NotFound                404
    ├── Conflict                409: the object has changed, or was replaced
    │   └── AlreadyExists       the name is taken
    ├── Gone                    410: the resource version is too old
    └── Invalid                 422
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spoke_jobs.shared.object_fields import mapping, text

LONGEST_PAUSE_SECONDS = 60.0
"""The longest pause that a client makes because the API server asks for it."""


class ApiError(Exception):
    """The API server answered with an error, or not at all. Made by :func:`api_error`."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        object_name: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status = status
        """The HTTP status; 0 for no answer."""
        self.reason = reason
        self.message = message
        self.object_name = object_name
        """The object that the answer concerns; empty if it concerns the path, such as a resource that isn't served."""
        self.retry_after_seconds = retry_after_seconds
        """The seconds to wait before a retry, if the API server gave them."""

    @property
    def pause_seconds(self) -> float:
        """For how long to send no call, because the API server asks for it; 0 if it does not."""
        return min(self.retry_after_seconds or 0.0, LONGEST_PAUSE_SECONDS)


class ApiUnavailable(ApiError):
    """Any other call would fail too: no answer, 429 or 5xx."""


class NoAnswer(ApiUnavailable):
    """The API server couldn't be reached, or didn't answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__(0, type(self).__name__, message)


class StreamSilent(NoAnswer):
    """An open stream sent nothing until its reader's timeout."""


class TooManyRequests(ApiUnavailable):
    """The API server asks for fewer calls."""


class ServerError(ApiUnavailable):
    """The API server had an internal error."""


class Unauthorized(ApiError):
    """The credentials are not accepted."""


class Forbidden(ApiError):
    """The account lacks the right, or an admission policy or a quota refuses the object."""


class NotFound(ApiError):
    """The object doesn't exist, or its resource isn't served."""


class Conflict(ApiError):
    """The object has changed since it was read, or another object has its name."""


class AlreadyExists(Conflict):
    """An object with the name of the new one exists."""


class Gone(ApiError):
    """The resource version, or a listing's snapshot, is too old to continue from."""


class Invalid(ApiError):
    """The object violates its schema."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def api_error(
    status: int, reason: str, message: str, object_name: str = "", retry_after_seconds: float | None = None
) -> ApiError:
    """Return the error for an answer, of the class for its status and reason."""
    if not status:
        return NoAnswer(message)
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
    if kind is Conflict and reason == "AlreadyExists":
        kind = AlreadyExists
    return kind(status, reason, message, object_name, retry_after_seconds)


def error_of_answer(status: int, reason: str, answer: Any, raw: bytes, retry_after: str | None = None) -> ApiError:
    """Return the error for an HTTP answer.

    :param reason: HTTP's reason phrase, used if the body has none.
    :param answer: the parsed body, usually a ``Status`` object; anything but a mapping reads as empty.
    :param raw: the unparsed body, used as the message if the body has none.
    :param retry_after: the header ``Retry-After``; anything but a whole number of seconds is ignored.
    """
    body: Mapping[str, Any] = answer if isinstance(answer, Mapping) else {}
    seconds = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
    message = text(body, "message") or raw[:200].decode(errors="replace")
    return api_error(status, text(body, "reason") or reason, message, text(mapping(body, "details"), "name"), seconds)
