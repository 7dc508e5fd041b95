"""Decide whether another attempt follows a failed one. Pure, and the same under every runner.

The worker calls it under ``legacy``, the operator under ``kubernetes``.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Self

from spoke_jobs.contract.causes import CauseClass, cause_class
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.shared.validation_text import wrong

DEFAULT_BUDGET: Mapping[CauseClass, int] = MappingProxyType(
    {
        CauseClass.ERROR: 3,
        CauseClass.OOM: 3,
        CauseClass.INFRASTRUCTURE: 3,
        CauseClass.IMAGE: 3,
        CauseClass.TIMEOUT: 1,
        CauseClass.INVALID: 1,
        CauseClass.DISRUPTION: 50,
        CauseClass.DEPENDENCY: 50,
    }
)
"""The number of failed attempts of a class that ends the job. With 3, the third failure of that class is final."""

OWN_BACKOFF: Mapping[CauseClass, Backoff] = MappingProxyType(
    {
        CauseClass.DISRUPTION: Backoff(base=5.0, maximum=300.0, jitter=0.25),
        CauseClass.DEPENDENCY: Backoff(base=2.0, maximum=300.0, jitter=0.25),
    }
)
"""The waits after failures that are not the job's fault. A class's wait grows with the failures of that class only, and
does not lengthen other classes' waits. With the default budgets, the waits of each class exceed three hours in all."""


def is_charged(kind: CauseClass) -> bool:
    """Whether an end of this class counts against the job's own budgets. Disruptions and dependencies do not."""
    return kind is not CauseClass.UNCHARGED and kind not in OWN_BACKOFF


DEFAULT_BACKOFF_SECONDS = 1.0
DEFAULT_BACKOFF_MAX_SECONDS = 300.0
DEFAULT_JITTER = 0.25
DEFAULT_MEMORY_FACTOR = 1.5
LARGEST_FACTOR = 4.0
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_LONGEST_SECONDS = 1e9
"""Small enough that it can be added to any date."""


def is_kind(value: Any) -> bool:
    """Whether the value is a class of cause that a budget may name."""
    return isinstance(value, str) and value in CauseClass.__members__.values()


def is_count(value: Any) -> bool:
    """Whether the value is a number of attempts that a budget may allow."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_wait(value: Any) -> bool:
    """Whether the value is a number of seconds from 0, to which a date can be added."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LONGEST_SECONDS


def is_duration(value: Any) -> bool:
    """Whether the value is a positive number of seconds."""
    return is_wait(value) and value > 0


def is_factor(value: Any) -> bool:
    """Whether the value is a factor by which memory may be multiplied."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= LARGEST_FACTOR


def is_quantity(value: Any) -> bool:
    """Whether the value is a Kubernetes quantity in a common form; rarer forms are not supported."""
    return isinstance(value, str) and re.fullmatch(QUANTITY, value) is not None


def is_jitter(value: Any) -> bool:
    """Whether the value is a number from 0 to 1."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _is_exception(value: Any) -> bool:
    return (isinstance(value, str) and bool(value)) or (isinstance(value, type) and issubclass(value, BaseException))


def qualified_name(kind: type) -> str:
    """Return a class's name as attempts record it: with its module, unless the class is built in."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def spread(key: str) -> float:
    """Return the share of the jitter to apply, from 0 to 1. The same key gives the same share in every process."""
    return zlib.crc32(key.encode()) / 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class PolicyField:
    """How a field of the policy is checked, and how a row's options store it."""

    problem: Callable[[Any], str]
    """Returns what is wrong with a value, as text that follows the field's name; empty if the value is valid."""
    readable: Callable[[Any], bool]
    """Whether a stored value can be used. Another release may have written the row."""
    read: Callable[[Any], Any]
    """Converts a stored value."""
    write: Callable[[Any], Any] = lambda value: value
    """Converts a value to its stored form."""


def _plain(default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
    """Declare a number or a text. A row stores it as it is."""
    kind = type(default)
    how = PolicyField(lambda value: "" if fits(value) else wrong(value, expected), fits, kind)
    return field(default=default, metadata={"how": how})


def _problem_of_budget(budget: Any) -> str:
    if not isinstance(budget, Mapping):
        return wrong(budget, "a mapping of CauseClass to a number of attempts")
    for kind, count in budget.items():
        if not is_kind(kind):
            return f" has {kind!r}, which is no CauseClass (one of {', '.join(CauseClass)})"
        if not is_count(count):
            return f" allows {count!r} of {kind}, where a whole number from 1 is expected"
    return ""


_BUDGET = PolicyField(
    _problem_of_budget,
    lambda value: isinstance(value, Mapping),
    lambda value: {CauseClass(kind): count for kind, count in value.items() if is_kind(kind) and is_count(count)},
    lambda budget: {str(kind): count for kind, count in budget.items()},
)
_NEVER = PolicyField(
    lambda value: (
        ""
        if isinstance(value, tuple) and all(map(_is_exception, value))
        else wrong(value, "a tuple of exception classes or their names")
    ),
    lambda value: isinstance(value, list),
    lambda value: tuple(name for name in value if isinstance(name, str)),
    lambda never: [item if isinstance(item, str) else qualified_name(item) for item in never],
)
WAIT = f"a number of seconds from 0 to {_LONGEST_SECONDS:.0e}"
"""What :func:`is_wait` expects, in words."""
DURATION = f"a positive number of seconds, at most {_LONGEST_SECONDS:.0e}"
"""What :func:`is_duration` expects, in words."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a failed job gets another attempt.

    Each field is declared here, with its check and its form in a row's options. One that the operator obeys is also a
    field of :class:`spoke_jobs.contract.custom_resources.spokejob.Retry`. The rest is derived: the SpokeJob's values,
    the flag of ``spoke-jobs dispatch``, what ``show`` prints, and docs/reference/options.md.
    """

    budget: Mapping[CauseClass, int] = field(default_factory=lambda: DEFAULT_BUDGET, metadata={"how": _BUDGET})
    """How many failed attempts of a class of cause end the job; a class that is left out has its default."""
    backoff_seconds: float = _plain(DEFAULT_BACKOFF_SECONDS, is_wait, WAIT)
    """The wait before the second attempt; it doubles with each charged attempt. Disruptions and dependencies have waits
    of their own."""
    backoff_max_seconds: float = _plain(DEFAULT_BACKOFF_MAX_SECONDS, is_wait, WAIT)
    """The longest wait."""
    jitter: float = _plain(DEFAULT_JITTER, is_jitter, "a number from 0 to 1")
    """The largest share by which a wait is lengthened, so that jobs that failed together don't retry together."""
    never: tuple[type[BaseException] | str, ...] = field(default=(), metadata={"how": _NEVER})
    """Exceptions that are never retried, with their subclasses: classes, or qualified names."""
    memory_factor: float = _plain(DEFAULT_MEMORY_FACTOR, is_factor, f"a number from 1 to {LARGEST_FACTOR:g}")
    """The factor for memory after an attempt that ran out of memory (``kubernetes`` only); 1 for no growth."""
    memory_max: str = _plain("", lambda value: value == "" or is_quantity(value), "a quantity such as '4Gi'")
    """The most memory that an attempt gets, such as ``4Gi``; empty for four times the first attempt's."""

    def check(self) -> None:
        """Check every field.

        :raises ValueError: naming the field, its value and what is expected.
        """
        for name, _, how in _FIELDS:
            if problem := how.problem(getattr(self, name)):
                raise ValueError(f"{name}{problem}")

    @property
    def backoff(self) -> Backoff:
        """The wait between attempts."""
        return Backoff(self.backoff_seconds, self.backoff_max_seconds, jitter=self.jitter)

    @property
    def never_names(self) -> tuple[str, ...]:
        """Return the names of the exceptions that are never retried."""
        return tuple(_NEVER.write(self.never))

    def to_json(self) -> dict[str, Any]:
        """Return the policy in the form that a row's options store."""
        return {key: how.write(getattr(self, name)) for name, key, how in _FIELDS}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the policy from a row's options. Unusable values, for example of another release, get their defaults."""
        found = {
            name: how.read(stored)
            for name, key, how in _FIELDS
            # A default, which most fields have, needs no check.
            if (stored := value.get(key, _DEFAULTS[key])) != _DEFAULTS[key] and how.readable(stored)
        }
        return cls(**found)

    def allowance(self, cause_class: CauseClass) -> int:
        """Return the number of failed attempts of this class that ends the job."""
        return self.budget.get(cause_class, DEFAULT_BUDGET.get(cause_class, 1))


def _key(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_FIELDS: tuple[tuple[str, str, PolicyField], ...] = tuple(
    (item.name, _key(item.name), item.metadata["how"]) for item in fields(RetryPolicy)
)
"""Each field's name, its key in a row's options, and how it is checked and stored."""
_DEFAULTS: Mapping[str, Any] = RetryPolicy().to_json()
"""The fields' defaults, as a row's options store them."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Another attempt follows, after ``delay_seconds``."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No attempt follows: the job is final, with the failed attempt's cause."""


HELD_DELAY_SECONDS = 2.0
"""The wait after an attempt that found its queue held, or that was preempted."""
LONGEST_HELD_DELAY_SECONDS = 60.0


_HELD_BACKOFF = Backoff(HELD_DELAY_SECONDS, LONGEST_HELD_DELAY_SECONDS)


def held_delay(earlier: int) -> float:
    """Return the seconds to wait after an attempt that found its queue held. The wait grows: each attempt costs a pod.

    :param earlier: how many consecutive attempts before this one also found the queue held.
    """
    return _HELD_BACKOFF.after(earlier + 1)


def after_failure(
    policy: RetryPolicy,
    charged: Mapping[CauseClass, int],
    cause: str,
    *,
    for_good: bool = False,
    retry_after_seconds: float | None = None,
    key: str = "",
) -> TryAgain | GiveUp:
    """Decide what follows an attempt that failed with ``cause``.

    :param charged: the job's earlier failed attempts by class, without this one.
    :param for_good: whether the attempt reported that a retry can't help.
    :param retry_after_seconds: the delay that the attempt asked for before the next one.
    :param key: identifies the attempt; see :func:`spread`.
    """
    kind = cause_class(cause)
    if for_good:
        return GiveUp()
    if kind is CauseClass.UNCHARGED:
        return TryAgain(HELD_DELAY_SECONDS if retry_after_seconds is None else retry_after_seconds)
    times = charged.get(kind, 0) + 1
    if times >= policy.allowance(kind):
        return GiveUp()
    if (own := OWN_BACKOFF.get(kind)) is not None:
        return TryAgain(own.after(times, spread(key)))
    failures = sum(count for other, count in charged.items() if other not in OWN_BACKOFF) + 1
    return TryAgain(policy.backoff.after(failures, spread(key)))
