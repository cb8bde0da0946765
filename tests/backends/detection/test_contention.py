"""Threads sleep while they wait where other processes use the processors, unless the user has set how they wait."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from advisor.backends.detection.contention import WATCH_S, busy_ticks, processors_busy, wait_policy
from advisor.backends.detection.host import HOST_ROOT


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def counting(*ticks: int | None) -> Callable[[], int | None]:
    """A system that counts these ticks, call after call."""
    return iter(ticks).__next__


def test_a_processor_of_two_in_use_is_busy_and_a_blip_is_not() -> None:
    assert processors_busy(2, counting(1000, 1000 + int(100 * WATCH_S)))
    assert not processors_busy(2, counting(1000, 1002))


def test_a_system_that_does_not_count_is_not_called_busy() -> None:
    assert not processors_busy(2, counting(None))
    assert not processors_busy(2, counting(1000, None))


def test_threads_sleep_among_others() -> None:
    assert wait_policy({}, 2, counting(0, 60)) == {"OMP_WAIT_POLICY": "PASSIVE"}
    assert wait_policy({}, 2, counting(0, 0)) == {}


def test_what_the_user_has_set_stays() -> None:
    assert wait_policy({"OMP_WAIT_POLICY": "ACTIVE"}, 2, counting()) == {}


def test_ticks_of_work_are_added_and_idle_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOST_ROOT, str(tmp_path))
    assert busy_ticks() is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  10 20 30 4000 5000 6 7 0 0 0\ncpu0 1 2 3 4 5 6 7 0 0 0\n")
    assert busy_ticks() == 10 + 20 + 30 + 6 + 7


def test_the_real_counter_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOST_ROOT, "/")
    ticks = busy_ticks()
    assert ticks is None or ticks > 0
