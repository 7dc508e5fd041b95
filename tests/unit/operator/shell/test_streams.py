from __future__ import annotations

import itertools
from collections.abc import Sized

from spoke_jobs_operator.shell.streams import Backoffs, _settings


def test_backoffs_are_endless_capped_and_begin_anew() -> None:
    backoffs = Backoffs()
    first = list(itertools.islice(backoffs, 50))
    assert (first[0], max(first), first[-1]) == (1, 10, 10)
    assert next(iter(backoffs)) == 1
    assert not isinstance(backoffs, Sized), "kopf would count its tries"


def test_kopf_is_kept_from_all_that_writes_or_looks_around() -> None:
    settings = _settings()
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.process.ultimate_exiting_timeout is None
    assert settings.watching.inactivity_timeout > 60
    assert settings.watching.chunk_size == 500
