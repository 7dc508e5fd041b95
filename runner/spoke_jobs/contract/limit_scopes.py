"""The scopes of limits and pauses: to which jobs a limit applies. The ledger and the operator share the grammar.

To let limits know one more value of a job, add its row to :data:`DIMENSIONS`, its forms to :class:`ScopeKind`, its
field to :class:`Subject`, and its line to :meth:`Subject.scopes`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple, Self

from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.shared.clean_text import is_storable

SCOPE_LIMIT = 253
SUFFIX = ".*"
"""The end of a prefix that stands for the types that begin with it."""


class ScopeKind(StrEnum):
    """The forms of a scope."""

    ALL = "all"
    TYPE = "type"
    QUEUE = "queue"
    ORGANIZATION = "organization"
    KEY = "key"
    EACH_TYPE = "each-type"
    EACH_QUEUE = "each-queue"
    EACH_ORGANIZATION = "each-organization"


ALL_KINDS = frozenset(ScopeKind)
_KEY, _TYPE, _EACH_TYPE = ScopeKind.KEY, ScopeKind.TYPE, ScopeKind.EACH_TYPE
_QUEUE, _EACH_QUEUE = ScopeKind.QUEUE, ScopeKind.EACH_QUEUE
_ORGANIZATION, _EACH_ORGANIZATION, _ALL = ScopeKind.ORGANIZATION, ScopeKind.EACH_ORGANIZATION, ScopeKind.ALL
# Read once: reading a member of an enumeration takes longer than the rest of a check.
Place = tuple[ScopeKind, str, str]
"""A scope that applies to a job: its form, its text, and what it counts the job as, a queue for example."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """What limits know of a job, and the forms of scopes that name it."""

    kind: ScopeKind
    """The form that is followed by a colon and a name."""
    each: ScopeKind | None
    """The form that stands for each name."""
    field: str
    """The field of a :class:`Subject`, and the column of a job's row."""
    spec_field: str
    """The field of a SpokeJob's spec."""
    none: str | None = None
    """The value of jobs without it."""
    shown: tuple[str, ...] = ("NAME",)
    """The forms of the name, for people."""
    form: str = ".+"
    """The form of the name, as a regular expression of the API server."""
    reason: WaitReason = WaitReason.LIMIT_REACHED
    """What a job waits for if the limit is reached."""

    @property
    def kinds(self) -> frozenset[ScopeKind]:
        """The forms that name it."""
        return frozenset({self.kind} if self.each is None else {self.kind, self.each})

    @property
    def is_number(self) -> bool:
        """Whether the name is a number."""
        return self.shown == ("NUMBER",)


DIMENSIONS = (
    Dimension(
        _TYPE,
        _EACH_TYPE,
        "job_type",
        "job_type",
        "",
        ("NAME", "PREFIX.*"),
        "[^*]+([.][*])?",
        WaitReason.TYPE_LIMIT_REACHED,
    ),
    Dimension(_QUEUE, _EACH_QUEUE, "queue_name", "queue", "", reason=WaitReason.QUEUE_LIMIT_REACHED),
    Dimension(
        _ORGANIZATION,
        _EACH_ORGANIZATION,
        "organization_id",
        "organization",
        shown=("NUMBER",),
        form="[0-9]{1,18}",
        reason=WaitReason.ORGANIZATION_LIMIT_REACHED,
    ),
    Dimension(_KEY, None, "limit_key", "limit_key", reason=WaitReason.KEY_LIMIT_REACHED),
)
"""What limits know of a job. The claims' SQL, the definition of SpokeLimits, admission and the texts follow from it."""
TYPE_DIMENSION, *_OTHERS = DIMENSIONS
"""The only one whose names have prefixes."""
PLAIN_DIMENSIONS = tuple(_OTHERS)
NAMED = tuple(dimension.kind for dimension in DIMENSIONS)
"""The forms that are followed by a colon and a name."""
EACH = {dimension.kind: dimension.each for dimension in DIMENSIONS if dimension.each is not None}
"""The form that stands for each name of a form."""
EACH_KINDS = frozenset(EACH.values())
LIMIT_REASONS = {ScopeKind.ALL: WaitReason.LIMIT_REACHED} | {
    kind: dimension.reason for dimension in DIMENSIONS for kind in dimension.kinds
}
"""What a job waits for if the limit of a scope is reached."""
NUMBERED = frozenset(dimension.kind for dimension in DIMENSIONS if dimension.is_number)
"""The forms that are followed by a number."""
_NAMED_OF = {each: kind for kind, each in EACH.items()}


def in_words(words: Sequence[str], last: str) -> str:
    """Return words as a sentence lists them.

    :param last: the word before the last of them.
    """
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


FORMS = ("all", *(f"{each.kind}:{name}" for each in DIMENSIONS for name in each.shown), *EACH.values())
"""The forms, for people."""
EXPECTED = in_words(FORMS, "or")
"""The forms, for error messages and helps."""
EACH_FORMS = in_words([*EACH.values()], "and")
EACH_NAMES = in_words([*EACH], "or")
SCOPE_START = (*sorted(NAMED, key=len, reverse=True), "all", "each-")
"""How the forms that this release knows begin."""
_PLAIN = "|".join(dimension.kind for dimension in DIMENSIONS if dimension.form == ".+")
_SPECIAL = "|".join(f"{dimension.kind}:{dimension.form}" for dimension in DIMENSIONS if dimension.form != ".+")
SCOPE_FORM = f"^(all|each-[a-z]+|({_PLAIN}):.+|{_SPECIAL})$"
"""The forms as a regular expression of the API server."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The jobs to which a limit applies."""

    kind: ScopeKind
    name: str = ""
    """The type, the prefix with its ``.*``, the queue, the organization's number, or the key."""

    @classmethod
    def parse(cls, text: str) -> Scope | None:
        """Read a scope; None for a form that this release does not know."""
        word, colon, name = text.partition(":")
        kind = next((kind for kind in ScopeKind if kind == word), None)
        if kind is None or bool(colon) != (kind in NAMED) or (colon and not name):
            return None
        if len(text) > SCOPE_LIMIT or not is_storable(text):
            return None
        if kind in NUMBERED and not (name.isascii() and name.isdigit()):
            return None
        if kind is ScopeKind.TYPE and "*" in name and not _is_pattern(name):
            return None
        return cls(kind, str(int(name)) if kind in NUMBERED else name)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.kind in NAMED else str(self.kind)


def counted_as(kind: ScopeKind, name: str) -> str:
    """Return the scope whose jobs count under a limit: ``queue:reports`` also under one of each queue."""
    return f"{_NAMED_OF.get(kind, kind)}:{name}" if name or kind is not _ALL else "all"


def _is_pattern(name: str) -> bool:
    """Whether it is a prefix like ``ingest.*``, which stands for the types that begin with ``ingest.``."""
    return name.endswith(SUFFIX) and len(name) > len(SUFFIX) and name.count("*") == 1


def patterns_of(name: str) -> Iterator[str]:
    """Yield the prefixes that a type's name matches, the longest first: ``a.b.*`` and ``a.*`` for ``a.b.c``."""
    while (end := name.rfind(".")) > 0:
        name = name[:end]
        yield name + SUFFIX


class Subject(NamedTuple):
    """What limits know of a job: the values of the :data:`DIMENSIONS`. Jobs with the same values count alike."""

    job_type: str = ""
    queue_name: str = ""
    """Empty for none."""
    organization_id: int | None = None
    limit_key: str | None = None

    @classmethod
    def of(cls, job: object) -> Self:
        """Take the values from a job's row, or from what has fields of the same names."""
        return cls._make(_of_row(job))

    @classmethod
    def of_spec(cls, spec: object) -> Self:
        """Take the values from the spec of a SpokeJob."""
        return cls._make(_of_spec(spec))

    def scopes(self, kinds: Collection[ScopeKind] = ALL_KINDS) -> Iterator[Place]:
        """Yield the scopes that apply, the narrowest first.

        :param kinds: the forms that are wanted. Others may come with them.
        """
        job_type, queue, organization, key = self
        if key is not None and _KEY in kinds:
            yield _KEY, f"key:{key}", key
        if _TYPE in kinds or _EACH_TYPE in kinds:
            yield _TYPE, f"type:{job_type}", job_type
            yield _EACH_TYPE, "each-type", job_type
            for pattern in patterns_of(job_type):
                if pattern != job_type:
                    yield _TYPE, f"type:{pattern}", pattern
        if queue and (_QUEUE in kinds or _EACH_QUEUE in kinds):
            yield _QUEUE, f"queue:{queue}", queue
            yield _EACH_QUEUE, "each-queue", queue
        if organization is not None and (_ORGANIZATION in kinds or _EACH_ORGANIZATION in kinds):
            name = str(organization)
            yield _ORGANIZATION, f"organization:{name}", name
            yield _EACH_ORGANIZATION, "each-organization", name
        if _ALL in kinds:
            yield _ALL, "all", ""


_of_row = attrgetter(*(dimension.field for dimension in DIMENSIONS))
_of_spec = attrgetter(*(dimension.spec_field for dimension in DIMENSIONS))
