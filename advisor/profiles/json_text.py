"""JSON of foreign files, with bounds: depth, sizes of whole numbers, and texts that can be written again."""

import json

MAX_DEPTH = 64
MAX_WHOLE = 2**63 - 1
"""Largest whole number that is accepted, of either sign."""
_DEEP = "nested too deeply"


def parse_json(text: str | bytes) -> object:
    """The value of a JSON text; `NaN` and `Infinity` are numbers, as in some `config.json` files.

    Raises `json.JSONDecodeError`, and `ValueError` with a sentence for nesting deeper than `MAX_DEPTH`, a whole number beyond 64 bits,
    and text that is no Unicode.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(_DEEP) from error
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
            raise
        raise ValueError("it has a whole number of thousands of digits") from error
    check_bounds(value)
    return value


def check_bounds(value: object) -> None:
    """Raise `ValueError` for parsed data outside the bounds of `parse_json`, with the key nearest to it."""
    level, depth = [("the value", value)], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(_DEEP)
        following: list[tuple[str, object]] = []
        for name, item in level:
            if isinstance(item, dict):
                following.extend((_checked_key(str(key)), inner) for key, inner in item.items())
            elif isinstance(item, list):
                following.extend((name, inner) for inner in item)
            elif isinstance(item, int) and abs(item) > MAX_WHOLE:
                raise ValueError(f"{name} is a whole number beyond 64 bits")
            elif isinstance(item, str) and not _is_unicode(item):
                raise ValueError(f"{name} holds half of a surrogate pair, which is no Unicode text")
        level = following


def _checked_key(key: str) -> str:
    if not _is_unicode(key):
        raise ValueError("a key holds half of a surrogate pair, which is no Unicode text")
    return f"`{key}`"


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
