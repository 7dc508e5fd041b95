"""How many objects a page of a listing may have, so that it takes little memory.

Whoever may create objects in a namespace may make them large: a page of 500 can have 700 MB. So a page is read up to a
number of bytes. One that has more is asked for again with fewer objects.
"""

from __future__ import annotations

MOST_OF_A_PAGE = 4 * 1024 * 1024
"""The most bytes of one page of a listing. In memory, an object may take twenty times as much as its JSON."""
MOST_OF_AN_ANSWER = 16 * 1024 * 1024
"""The most bytes of any other answer, and of a page that has only one object. The API server stores no object that is
larger than a few megabytes."""
FIRST_LIMIT = 100
"""The most objects of a listing's first page."""
MOST_OBJECTS = 500
"""The most objects of any page."""


def most_bytes(limit: int) -> int:
    """Return how many bytes of a page with so many objects are read."""
    return MOST_OF_A_PAGE if limit > 1 else MOST_OF_AN_ANSWER


def after_page(limit: int, size: int) -> int:
    """Return the most objects of the page after one with so many bytes."""
    return min(MOST_OBJECTS, 2 * limit) if size < MOST_OF_A_PAGE / 4 else limit


def after_too_large(limit: int) -> int:
    """Return with how many objects a page that is too large is asked for again."""
    return max(1, limit // 4)
