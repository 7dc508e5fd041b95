"""Put other code into functions that are loaded already, so that an edit needs no new process and no import.

Everybody who has imported the function then calls the other code. The edits have to be inside of functions.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType

_Place = tuple[str, int]
"""A function's qualified name, and its first line."""


class Functions:
    """The functions of some files, as they are loaded.

    :param files: the files' paths.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._of: dict[str, defaultdict[_Place, list[FunctionType]]] = {str(file): defaultdict(list) for file in files}
        gc.unfreeze()  # frozen objects are not listed
        for item in gc.get_objects():
            if isinstance(item, FunctionType) and (found := self._of.get(item.__code__.co_filename)) is not None:
                found[_place(item.__code__)].append(item)
        gc.freeze()

    def swap(self, file: Path, change: Callable[[str], str]) -> int:
        """Give a file's functions the code of the changed text. Return how many functions have other code now."""
        source, name = file.read_text(), str(file)
        before = _by_name(compile(source, name, "exec", dont_inherit=True))
        after = _by_name(compile(change(source), name, "exec", dont_inherit=True))
        count = 0
        for qualified, codes in before.items():
            for old, new in zip(codes, after.get(qualified, ()), strict=False):
                if old != new:
                    for function in self._of[name][_place(old)]:
                        function.__code__ = new
                        count += 1
        return count


def _place(code: CodeType) -> _Place:
    return code.co_qualname, code.co_firstlineno


def _by_name(code: CodeType) -> dict[str, list[CodeType]]:
    """Return the codes of all functions by their qualified names: several for a property with a setter."""
    found: defaultdict[str, list[CodeType]] = defaultdict(list)
    for inner in _within(code):
        found[inner.co_qualname].append(inner)
    return {name: sorted(codes, key=lambda item: item.co_firstlineno) for name, codes in found.items()}


def _within(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _within(constant)
