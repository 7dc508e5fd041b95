"""The fingerprint of a failure: the exception's type and its place in the application's code, never its text.

Failures with the same fingerprint probably have the same reason. It holds no line number, so that an edit elsewhere in
the file does not change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import TracebackType

from spoke_jobs.contract.retry import qualified_name

LIMIT = 200
_LIBRARY = "spoke_jobs"


def fingerprint(error: BaseException) -> str:
    """Return the exception's type and the function that raised it: ``KeyError@shop.importing.load_rows``.

    The function is the innermost one of the application: of the package whose function the library called. Only the
    type, if the traceback has none.
    """
    places = [place for place in _places(error.__traceback__) if _package(place[0]) != _LIBRARY]
    kind = qualified_name(type(error))
    if not places:
        return _plain(kind)
    application = _package(places[0][0])
    module, function = next(place for place in reversed(places) if _package(place[0]) == application)
    return _plain(f"{kind}@{module}.{function}")


def _places(traceback: TracebackType | None) -> Iterator[tuple[str, str]]:
    """Yield the module and the function of each frame, the outermost first."""
    while traceback is not None:
        frame = traceback.tb_frame
        yield str(frame.f_globals.get("__name__", "")), frame.f_code.co_qualname
        traceback = traceback.tb_next


def _package(module: str) -> str:
    return module.partition(".")[0]


def _plain(text: str) -> str:
    """Leave characters that a shell takes as they are: ``load.<locals>.<lambda>`` becomes ``load.lambda``."""
    return re.sub(r"[^\w.@]", "", text.replace("<locals>.", ""), flags=re.ASCII)[:LIMIT]
