"""Garbage is collected while nobody types: looking through all that a planner keeps takes longer than a frame."""

import gc

REST_S = 1.5
"""How long no key must have been pressed."""
_NEVER = 1_000_000


def hold_back() -> tuple[int, int, int]:
    """Leave full collections to `collect`; young objects are collected as ever. Returns what `gc.set_threshold` undoes it with."""
    before = gc.get_threshold()
    gc.set_threshold(*before[:2], _NEVER)
    return before


def collect() -> None:
    """Collect everything, and let small collections pass over what is left."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def let_go(before: tuple[int, int, int]) -> None:
    """Collect as before."""
    gc.set_threshold(*before)
    gc.unfreeze()
