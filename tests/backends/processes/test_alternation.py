"""Two parties work alternately, until one leaves or the work is cancelled."""

import threading
import time

from advisor.backends.processes.alternation import Alternation


def parts_of(process: int, alternation: Alternation, parts: int, order: list[int]) -> None:
    for _ in range(parts):
        assert alternation.wait(process, threading.Event(), time.monotonic() + 30)
        order.append(process)
    alternation.leave(process)


def test_parties_alternate_and_the_one_that_is_left_goes_on_alone() -> None:
    alternation, order = Alternation(), list[int]()
    threads = [threading.Thread(target=parts_of, args=(process, alternation, parts, order)) for process, parts in ((1, 5), (0, 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 0, 1, 0, 1, 1, 1]


def test_a_process_that_waits_is_freed_by_a_cancellation_and_by_the_clock() -> None:
    alternation, cancel = Alternation(), threading.Event()
    assert alternation.wait(0, cancel, time.monotonic() + 30)
    assert not alternation.wait(1, cancel, time.monotonic() - 1)
    cancel.set()
    assert not alternation.wait(1, cancel, time.monotonic() + 30)
