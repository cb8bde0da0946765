"""Progress of a job, and its time left."""

import time

import pytest

from advisor.backends.measure.timing import Clock
from advisor.backends.processes.events import Event, Progress


def test_the_end_is_extrapolated_from_the_share_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    events: list[Event] = []
    clock = Clock(90.0, None, events.append)
    clock.report("load", 1, 1)
    clock.extrapolate(0.0)
    now[0] = 110.0
    clock.extrapolate(0.25)
    clock.report("repeat 1 of 4", 4, 4)
    assert [event.left_s for event in events if isinstance(event, Progress)] == [None, 30.0]
