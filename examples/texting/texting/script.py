"""A campaign's script: the message with places for what is known of each contact."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from texting.models import Contact

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_ALWAYS = ("firstName", "lastName")
"""What every contact has."""


def filled(script: str, contact: Contact) -> str:
    """The script for one contact. What it has no value for is left empty: no reader should see braces."""
    values = {**contact.custom_fields, "firstName": contact.first_name, "lastName": contact.last_name}
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], ""), script)


def unknown_names(script: str, custom_fields: Iterable[str]) -> Sequence[str]:
    """The names in the script that no contact can have a value for, each once."""
    known = {*_ALWAYS, *custom_fields}
    return [name for name in dict.fromkeys(_PLACEHOLDER.findall(script)) if name not in known]
