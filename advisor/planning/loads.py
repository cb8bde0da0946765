"""Which values of a question describe its load, and which of them exclude each other. The front ends say so in their own words."""

from collections.abc import Collection
from dataclasses import dataclass

LOADS = ("concurrency", "request_rate", "burst", "load_trace", "offline_load")
"""Parameters that each describe a whole load: a question has at most one."""
TRACE = "load_trace"
LENGTHS = ("prompt_tokens", "output_tokens")
"""Parameters that a trace replaces: it has the lengths of each request."""


@dataclass(frozen=True, slots=True)
class LoadConflict:
    """Parameters of a question that exclude each other."""

    parameters: tuple[str, ...]
    """Loads of which one may stay, or lengths that must be left out."""
    with_trace: bool
    """Whether they are lengths, given with a trace."""


def load_conflict(given: Collection[str]) -> LoadConflict | None:
    """The first conflict among the names of the parameters that have a value; `None` where there is none.

    >>> load_conflict({"burst", "concurrency"})
    LoadConflict(parameters=('concurrency', 'burst'), with_trace=False)
    """
    loads = tuple(name for name in LOADS if name in given)
    if len(loads) > 1:
        return LoadConflict(loads, with_trace=False)
    lengths = tuple(name for name in LENGTHS if name in given)
    return LoadConflict(lengths, with_trace=True) if TRACE in given and lengths else None
