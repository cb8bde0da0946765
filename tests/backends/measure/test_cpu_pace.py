"""The pace follows what the processor is left, and interruptions do not count."""

import time

import pytest

from advisor.backends.measure.cpu_pace import EVERY_S, Pace, time_fixed_loop


def test_the_fixed_work_takes_time() -> None:
    assert 1e-7 < min(time_fixed_loop() for _ in range(5)) < 0.05


def test_nothing_sampled_is_no_pace() -> None:
    assert Pace().mean_s is None


def test_samples_are_apart_and_interrupted_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = iter([1.0, 1.0, 2.0, 2.0, 90.0])
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    pace = Pace(lambda: next(samples))
    for _ in range(5):
        pace.tick()
        pace.tick()
        now[0] += EVERY_S
    assert next(samples, None) is None
    assert pace.mean_s == pytest.approx(1.5)
