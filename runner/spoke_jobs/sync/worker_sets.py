"""The sets of workers whose load sync reports, from the setting SPOKE_WORKER_SETS."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.model import ANY_CLAIM, ClaimFilter
from spoke_jobs.shared.strict_json import read_json

ALL = "all"
"""The name of the only set, if the setting names none: all workers of the lane together."""
MOST_SETS = 50
_Patterns = tuple[str, ...]


class _WorkerSet(BaseModel):
    """What the workers of a set take: the options of `spoke-jobs worker`, named as in the chart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    types: _Patterns = ()
    queues: _Patterns = ()
    not_types: _Patterns = Field(default=(), alias="excludedTypes")
    not_queues: _Patterns = Field(default=(), alias="excludedQueues")


_SETS = TypeAdapter(dict[str, _WorkerSet])


def read_worker_sets(text: str) -> Mapping[str, ClaimFilter]:
    """Read the setting. Without a value there is one set, which takes all jobs of the lane.

    :raises ConfigurationError: if it can't be used.
    """
    if not text:
        return {ALL: ANY_CLAIM}
    try:
        sets = _SETS.validate_python(read_json(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigurationError(
            f"SPOKE_WORKER_SETS can't be used ({where}: {first['msg']}): expected JSON such as "
            '{"small": {"types": ["mail"], "excludedQueues": ["exports*"]}}'
        ) from None
    if len(sets) > MOST_SETS:
        raise ConfigurationError(f"SPOKE_WORKER_SETS names {len(sets)} sets of workers, and {MOST_SETS} is the most")
    return {name: ClaimFilter(each.types, each.queues, each.not_types, each.not_queues) for name, each in sets.items()}
