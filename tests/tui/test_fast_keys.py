"""Keys that come faster than the screen is drawn act as if they had come one at a time."""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.events import Event, Key, Paste
from textual.pilot import Pilot
from textual.widgets import Input

from advisor.tui import key_queue
from advisor.tui.app import AdvisorApp
from advisor.tui.key_queue import KeyQueue
from advisor.tui.panels.plans import PlansPanel
from advisor.tui.screens.modals import PathScreen
from advisor.tui.screens.start import StartScreen
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, an_app, driven, planning_alone, settled, shared_app
from tests.tui.jobs import until

PASTED = "paste "
BOTH_EMPTY = QUESTION.with_text("ttft_ms", "").with_text("tpot_ms", "")


def _event(key: str) -> Event:
    return Paste(key.removeprefix(PASTED)) if key.startswith(PASTED) else Key(key, key if len(key) == 1 else None)


def _send(app: App[None], *keys: str) -> None:
    """All keys in one go, as a terminal delivers what was typed while it lagged."""
    assert app._driver is not None
    for key in keys:
        event = _event(key)
        event.set_sender(app)
        app._driver.send_message(event)


async def _at_once(pilot: Pilot[None], *keys: str) -> None:
    app = pilot.app
    assert isinstance(app, AdvisorApp)
    _send(app, *keys)
    await until(pilot, lambda: app._key_queue._current is None)
    await settled(pilot)


def _fields(app: AdvisorApp) -> tuple[Input, Input]:
    first, second = (app.screen.query_one(f"#field-{name}", Input) for name in ("ttft_ms", "tpot_ms"))
    return first, second


def test_what_comes_behind_the_key_that_leaves_a_field_stands_in_the_next() -> None:
    async def drive() -> None:
        async with shared_app(BOTH_EMPTY, client=CannedClient()) as (app, pilot):
            first, second = _fields(app)
            for leaves, follows in itertools.product(("tab", "enter"), (("3", "5", "0"), (f"{PASTED}350",))):
                first.value = second.value = ""
                first.focus()
                await settled(pilot)
                await _at_once(pilot, *"245", "backspace", leaves, *follows)
                assert (first.value, second.value) == ("24", "350"), (leaves, follows)

    SHARED_APP.run(drive())


def test_what_is_typed_behind_a_key_that_opens_a_box_stands_in_it() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "2")
            await _at_once(pilot, *"efs1")
            assert isinstance(app.screen, PathScreen)
            assert app.screen.query_one(Input).value == "fs1"
            assert app.store.state.filter == "frontier"

    SHARED_APP.run(drive())


def test_a_key_behind_one_that_moves_the_cursor_acts_where_the_cursor_is_then() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "2", "f", "f")
            await settled(pilot)
            await _at_once(pilot, "down", "space", "down", "space")
            table = app.screen.query_one(PlansPanel)
            second, third = (str(table.coordinate_to_cell_key((row, 0)).row_key.value) for row in (1, 2))  # type: ignore[arg-type]
            assert app.store.state.marked == (second, third)

    SHARED_APP.run(drive())


def test_a_key_that_no_widget_has_the_focus_for_acts_and_lets_the_next_one_act() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            app.screen.set_focus(None)
            await _at_once(pilot, *"ff0", *"xy")
            assert app.store.state.filter == "all"
            assert isinstance(app.screen, StartScreen)
            assert app.screen.query_one(Input).value == "xy"

    SHARED_APP.run(drive())


def test_a_key_that_is_lost_on_its_way_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_queue, "TIMEOUT_S", 0.05)

    class Loses(Input):
        loses = False

        def call_later(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
            """Drops it, as a widget that is gone before it comes to it."""
            return self.loses or super().call_later(callback, *args, **kwargs)

    class Small(App[None]):
        def __init__(self) -> None:
            super().__init__()
            self._key_queue = KeyQueue(self, super().on_event)

        async def on_event(self, event: Event) -> None:
            await self._key_queue.on_event(event)

        def compose(self) -> ComposeResult:
            yield Loses()

    async def drive() -> None:
        app = Small()
        async with app.run_test():
            field = app.query_one(Loses)
            field.loses = True
            _send(app, *"350")
            for _ in range(1000):
                await asyncio.sleep(0.01)
                if field.value == "350":
                    break
            field.loses = False
            assert field.value == "350"

    asyncio.run(drive())


def test_a_key_that_takes_long_has_its_effect_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_queue, "TIMEOUT_S", 0.05)

    class Slow(Input):
        async def on_key(self, event: Event) -> None:
            """Leaves for the next field, and keeps the app from everything else meanwhile."""
            if isinstance(event, Key) and event.key == "enter":
                for _ in range(5):
                    time.sleep(0.02)
                    await asyncio.sleep(0)
                self.screen.focus_next()

    class Two(App[None]):
        def __init__(self) -> None:
            super().__init__()
            self._key_queue = KeyQueue(self, super().on_event)

        async def on_event(self, event: Event) -> None:
            await self._key_queue.on_event(event)

        def compose(self) -> ComposeResult:
            yield from (Slow(), Slow())

    async def drive() -> None:
        app = Two()
        async with app.run_test() as pilot:
            first, second = app.query(Input)
            first.focus()
            await pilot.pause()
            _send(app, "1", "enter", "2")
            await until(pilot, lambda: "2" in first.value + second.value)
            assert (first.value, second.value) == ("1", "2")

    asyncio.run(drive())


def test_what_is_typed_behind_the_key_that_quits_is_let_go() -> None:
    async def drive() -> None:
        app = an_app(QUESTION, client=CannedClient())
        async with driven(app) as pilot:
            await pilot.press("escape", "2")
            _send(app, "f", "ctrl+q", "f", "f")
            while app.is_running:
                await asyncio.sleep(0.01)
        assert app.return_code == 0
        assert app.store.state.filter == "feasible"

    asyncio.run(drive())


def test_reasons_that_come_late_never_stand_for_another_plan() -> None:
    async def drive() -> None:
        async with planning_alone(QUESTION, CannedClient()) as (planning, _):
            assert planning.planned is not None
            best, second = (candidate.id for candidate in planning.planned.advice.ranked[:2])
            late = planning.client.advice_for(planning.planned, second)
            assert late is not None
            assert planning.detail is not None
            planning.show_detail(planning.planned, late)
            assert planning.selected == planning.detail.chosen.id == best

    asyncio.run(drive())
