"""Threads sleep while they wait where others use the processors, unless the user has said how they wait."""

import pytest

from advisor.backends.detection import contention as neighbours
from advisor.backends.detection.contention import WATCH_S, processors_busy, wait_policy


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """What the system counts, call after call; no time passes."""
    counted: list[int | None] = []
    monkeypatch.setattr(neighbours, "busy_ticks", lambda: counted.pop(0))
    monkeypatch.setattr(neighbours.time, "sleep", lambda seconds: None)  # type: ignore[attr-defined]
    monkeypatch.setattr(neighbours.os, "sysconf", lambda name: 100)  # type: ignore[attr-defined]
    return counted


def test_a_processor_of_two_in_use_is_busy_and_a_blip_is_not(ticks: list[int | None]) -> None:
    ticks += [1000, 1000 + int(100 * WATCH_S)]
    assert processors_busy(2)
    ticks += [1000, 1002]
    assert not processors_busy(2)


def test_a_system_that_does_not_count_is_not_called_busy(ticks: list[int | None]) -> None:
    ticks += [None, None]
    assert not processors_busy(2)


def test_threads_sleep_among_others(ticks: list[int | None]) -> None:
    ticks += [0, 60]
    assert wait_policy({}, 2) == {"OMP_WAIT_POLICY": "PASSIVE"}
    ticks += [0, 0]
    assert wait_policy({}, 2) == {}


def test_what_the_user_has_set_stays(ticks: list[int | None]) -> None:
    assert wait_policy({"OMP_WAIT_POLICY": "ACTIVE"}, 2) == {}
    assert not ticks


def test_the_real_counter_counts() -> None:
    counted = neighbours.busy_ticks()
    assert counted is None or counted > 0
