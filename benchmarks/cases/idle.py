"""How long the device is idle: the share of a traced stretch in which no kernel runs, gaps within steps included."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch

Span = tuple[float, float]
SETTLED = 0.5
"""The trace's part from which on nothing but decoding is left."""


def idle_in_trace(work: Callable[[], object], device: torch.device) -> float | None:
    """Trace `work` and look at its later half; `None` without a GPU or where it cannot be traced."""
    if device.type != "cuda":
        return None
    # only a GPU is traced
    from torch.profiler import ProfilerActivity, profile

    try:
        with profile(activities=[ProfilerActivity.CUDA]) as trace:
            work()
            torch.cuda.synchronize(device)
    except RuntimeError:
        return None
    return idle_share([(event.time_range.start, event.time_range.end) for event in trace.events() if event.device_type.name == "CUDA"])


def idle_share(spans: Iterable[Span], settled: float = SETTLED) -> float | None:
    """The share of time that no span covers, from `settled` of the stretch on; `None` for fewer than two spans."""
    merged = union(spans)
    if len(merged) < 2:
        return None
    begin, end = merged[0][0], merged[-1][1]
    from_then = begin + settled * (end - begin)
    late = [(max(start, from_then), stop) for start, stop in merged if stop > from_then]
    if not late:
        return None
    waited = sum(after[0] - before[1] for before, after in pairwise(late)) + late[0][0] - from_then
    return waited / (end - from_then)


def union(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that touch or overlap as one."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
