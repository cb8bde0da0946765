"""Garbage collection between key presses: a full collection of the planner's caches takes longer than a frame."""

import gc

REST_S = 1.5
"""Seconds without a key before a full collection."""
_NEVER = 1_000_000


def defer_full_collections() -> tuple[int, int, int]:
    """Leave full collections to `collect`; young generations are collected as usual. Returns the thresholds for `restore`."""
    before = gc.get_threshold()
    gc.set_threshold(*before[:2], _NEVER)
    return before


def collect() -> None:
    """Collect every generation, and exclude what is left from later small collections."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def restore(thresholds: tuple[int, int, int]) -> None:
    """Collect as before `defer_full_collections`."""
    gc.set_threshold(*thresholds)
    gc.unfreeze()
