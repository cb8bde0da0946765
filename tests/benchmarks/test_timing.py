"""Candidates take turns over their sets of inputs, and a peer that cannot run is told with its reason."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks.harness.record import Record, Work


def test_candidates_are_interleaved_and_cycle_through_their_sets() -> None:
    import torch

    from benchmarks.harness.timing import Candidate, interleaved

    seen: list[str] = []

    def work(name: str, size: int) -> None:
        seen.append(name)
        sum(range(size))

    slow = [partial(work, name, 200_000) for name in ("a0", "a1", "a2")]
    other = [partial(work, "b", 2_000_000)]
    first, second = interleaved([Candidate("a", slow), Candidate("b", other)], torch.device("cpu"), samples=3)
    assert (len(first.seconds), len(second.seconds)) == (3, 3)
    assert (first.how, first.calls % 3, second.calls) == ("loop", 0, 1)
    timed = seen[-3 * (first.calls + second.calls) :]
    assert [name[0] for name in timed] == (["a"] * first.calls + ["b"]) * 3
    assert set(timed) == {"a0", "a1", "a2", "b"}


def test_a_peer_that_raises_is_missing_and_ours_is_not_allowed_to() -> None:
    import torch

    from benchmarks.harness.timing import Candidate, interleaved

    def refuse() -> None:
        raise NotImplementedError("no kernel for this width")

    ours = Candidate("ours", [lambda: None])
    timings = interleaved([ours, Candidate("peer", [refuse])], torch.device("cpu"), samples=2)
    assert (timings[1].how, timings[1].why) == ("missing", "NotImplementedError: no kernel for this width")
    assert timings[1].median_s is None
    with pytest.raises(NotImplementedError):
        interleaved([Candidate("ours", [refuse])], torch.device("cpu"), samples=2)


def test_small_inputs_come_in_many_sets_and_never_fewer_than_three() -> None:
    import torch

    from benchmarks.harness.timing import FEWEST_SETS, sets_for

    assert sets_for(2**40, torch.device("cpu")) == FEWEST_SETS == 3


def test_rates_are_of_a_candidates_own_work_and_medians() -> None:
    import torch

    from benchmarks.harness.timing import Candidate, interleaved

    timings = interleaved([Candidate("ours", [lambda: sum(range(1000))])], torch.device("cpu"), samples=5)
    record = Record(case="a", status="done", environment="e", work={"ours": Work(bytes=1000, flops=10)}, timings=timings)
    seconds = record.median_s("ours")
    assert seconds is not None
    assert record.rate("ours") == pytest.approx(1000 / seconds)
    assert record.rate("ours", "flops") == pytest.approx(10 / seconds)
    assert record.rate("other") is None
