"""Nested data as indented text, for reports that are read once."""

from collections.abc import Iterator, Mapping
from typing import Any

from advisor.views.style import Look, wrap


def tree_text(data: Mapping[str, Any], *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """One line per value, nested under its name; `none` where there is nothing."""
    look = Look(width, colour, ascii)
    return look.finish(_lines(data, look, 0))


def _lines(data: Mapping[str, Any], look: Look, depth: int) -> Iterator[str]:
    name_width = max((len(name) for name in data), default=0) + 2
    for name, value in data.items():
        indent = "  " * depth
        if isinstance(value, Mapping) and value:
            yield indent + look.paint(_words(name), "title")
            yield from _lines(value, look, depth + 1)
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            yield indent + look.paint(_words(name), "title")
            for item in value:
                yield from _lines(item, look, depth + 1)
        else:
            yield from wrap(_told(value), look, first=f"{indent}{_words(name):<{name_width}}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _told(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or value == {} or value == "" else str(value)
