"""A simulation runs the checkpoint of its caller between steps."""

import pytest

from advisor.estimate.cancellation import cancellable
from advisor.estimate.serving.requests import UNLIMITED_POOL
from advisor.estimate.serving.scheduler import Scheduler
from tests.estimate.serving.test_scheduler import scheduler

LENGTHS = [(100, 50), (900, 40), (30, 90)]


class Enough(Exception):  # noqa: N818 - no error: the caller cancels
    pass


def served() -> tuple[Scheduler, list[float]]:
    run = scheduler(UNLIMITED_POOL)
    return run, [request.last_s for request in run.serve(LENGTHS, in_flight=None)]


def test_what_the_check_raises_ends_the_simulation() -> None:
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 3:
            raise Enough

    with pytest.raises(Enough), cancellable(check):
        served()
    assert checks == 3


def test_a_check_that_lets_it_go_on_changes_nothing() -> None:
    calls: list[None] = []
    with cancellable(lambda: calls.append(None)):
        _, checked = served()
    _, alone = served()
    assert checked == alone
    assert len(calls) > len(LENGTHS)
