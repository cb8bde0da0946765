"""What keeps the screen quick: nothing is laid out for a key, garbage waits for a rest, and the planner gives way."""

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from textual.screen import Screen

from advisor.tui import gc_control
from advisor.tui.workers.priority_lock import PriorityLock
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, an_app, driven, settled, shared_app, typed


def test_a_key_in_a_limit_lays_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out: list[None] = []
    lay_out = Screen._refresh_layout

    def counted(self: Screen[None], *arguments: Any, **named: Any) -> None:
        laid_out.append(None)
        lay_out(self, *arguments, **named)

    async def drive() -> None:
        async with shared_app(QUESTION, CannedClient()) as (app, pilot):
            await typed(pilot, "ttft_ms", "44")
            monkeypatch.setattr(Screen, "_refresh_layout", counted)
            await pilot.press("4")
            await settled(pilot)
            assert app.planning.planned is not None
            assert app.planning.planned.values.text("ttft_ms") == "444"

            assert not laid_out
            await pilot.resize_terminal(100, 30)
            await settled(pilot)
            assert laid_out  # it is this that lays out

    SHARED_APP.run(drive())


def test_full_collections_wait_for_a_rest_and_are_as_before_when_the_app_ends() -> None:
    SHARED_APP.close()
    before = gc.get_threshold()

    async def drive() -> None:
        app = an_app(QUESTION, client=CannedClient())
        async with driven(app):
            assert gc.get_threshold()[:2] == before[:2]
            assert gc.get_threshold()[2] > 1000 * before[2]

    asyncio.run(drive())
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_garbage_of_before_a_rest_is_still_collected_at_the_next() -> None:
    class Ring:
        def __init__(self) -> None:
            self.ring = self

    gone = threading.Event()
    ring: Ring | None = Ring()
    gc_control.collect()
    weakref.finalize(ring, gone.set)
    ring = None
    gc_control.collect()
    gc.unfreeze()
    assert gone.is_set()


def test_background_work_yields_to_an_urgent_holder_and_continues() -> None:
    lock, order = PriorityLock(), []
    inside, requested = threading.Event(), threading.Event()

    def idle() -> None:
        with lock.background():
            inside.set()
            assert requested.wait(60)
            order.append("begun")
            while "urgent" not in order:
                lock.yield_to_urgent()
            order.append("ended")

    def urgent() -> None:
        assert inside.wait(60)
        requested.set()
        with lock.urgent():
            order.append("urgent")

    threads = [threading.Thread(target=work) for work in (idle, urgent)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert order == ["begun", "urgent", "ended"]
