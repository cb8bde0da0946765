"""Kinds share the time as asked, needed work is done in any case, and what one leaves over is used by the others."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from advisor.backends.measure.interleave import MeasurementKind, interleave
from advisor.backends.measure.timing import Clock
from advisor.backends.processes.events import Event, Progress


class Hands:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def work(self, name: str, seconds: float) -> Iterator[str]:
        self.now += seconds
        yield name


def kind(hands: Hands, name: str, seconds: float, *, pieces: int, share: float, needed: int = 0) -> MeasurementKind[str]:
    tasks: list[Callable[[], Iterator[str]]] = [partial(hands.work, name, seconds)] * pieces
    return MeasurementKind(tasks=tasks, share=share, required=needed)


def run(hands: Hands, kinds: tuple[MeasurementKind[str], ...], at: float, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    events: list[Event] = []
    monkeypatch.setattr(time, "monotonic", hands.monotonic)
    clock = Clock(0.0, at, events.append)
    interleave(kinds, clock, clock.until(1.0), "timings")
    return events


def test_time_is_shared_in_the_given_proportion_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands()
    slow, quick = kind(hands, "slow", 2.0, pieces=100, share=0.75), kind(hands, "quick", 0.5, pieces=100, share=0.25)
    run(hands, (slow, quick), 40.0, monkeypatch)
    assert 28 <= slow.spent_s <= 32
    assert 9 <= quick.spent_s <= 12


def test_what_is_needed_is_done_after_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands()
    first, second = kind(hands, "a", 5.0, pieces=4, share=0.5, needed=1), kind(hands, "b", 1.0, pieces=4, share=0.5, needed=3)
    run(hands, (first, second), 0.0, monkeypatch)
    assert (first.samples, second.samples) == (["a"], ["b"] * 3)


def test_what_one_kind_leaves_over_is_used_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands()
    few, many = kind(hands, "few", 1.0, pieces=2, share=0.9), kind(hands, "many", 1.0, pieces=50, share=0.1)
    events = run(hands, (few, many), 20.0, monkeypatch)
    assert (few.done, many.done) == (2, 18)
    last = events[-1]
    assert isinstance(last, Progress)
    assert (last.done, last.total) == (52, 52)
