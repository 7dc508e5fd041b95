"""Payload models of which it is known beforehand that their JSON gives back what they hold.

Reading a payload's JSON again shows that for any model, at half the cost of a dispatch. A model that has nothing but
strings, whole numbers, truth values and None, and no validator, serializer or constraint of its own, needs no showing:
it is enough that an instance holds what its fields say.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

Kinds = dict[str, tuple[type, ...]]
"""By field, the types that its value may have, exactly."""

_LARGE = 2**63
"""Larger whole numbers are left to the close look: at some length Python refuses to read them."""
_PLAIN: tuple[tuple[Any, tuple[type, ...]], ...] = tuple(
    item for kind in (str, int, bool) for item in ((kind, (kind,)), (kind | None, (kind, type(None))))
)
_HARMLESS_SETTINGS = {"extra", "frozen", "from_attributes", "title"}
_HOOKS = ("__init__", "__new__", "__get_pydantic_core_schema__", "model_post_init", "model_dump_json",
          "model_validate_json")  # fmt: skip


def holds_what_returns(model: type[BaseModel], value: BaseModel) -> bool:
    """Whether ``value`` is sure to come back from its JSON, read as ``model``; False where only reading it can tell."""
    kinds = flat_kinds(model)
    held = vars(value)
    if kinds is None or type(value) is not model or len(held) != len(kinds):
        return False
    for name, item in held.items():
        kind = type(item)
        if kind not in kinds.get(name, ()) or (kind is int and not -_LARGE < item < _LARGE):
            return False
    return True


@lru_cache(maxsize=1024)
def flat_kinds(model: type[BaseModel]) -> Kinds | None:
    """What a flat model's fields hold; None if the model isn't flat, or has a say in how it is read or written."""
    settings = model.model_config
    if not settings.keys() <= _HARMLESS_SETTINGS or settings.get("extra") == "allow":
        return None
    decorators = model.__pydantic_decorators__
    if any(getattr(decorators, item.name) for item in fields(decorators)):
        return None
    if model.__private_attributes__ or any(_is_own(model, name) for name in _HOOKS):
        return None
    found: Kinds = {}
    for name, field in model.model_fields.items():
        kinds = next((kinds for plain, kinds in _PLAIN if field.annotation == plain), None)
        if kinds is None or field.metadata or field.exclude or field.alias or field.validation_alias:
            return None
        found[name] = kinds
    return found


def _is_own(model: type[BaseModel], name: str) -> bool:
    own, base = getattr(model, name), getattr(BaseModel, name)
    return getattr(own, "__func__", own) is not getattr(base, "__func__", base)
