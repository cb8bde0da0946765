"""Keys that come faster than the screen is drawn act as if they had come one at a time."""

import asyncio

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input

from advisor.session.screens.modals import PathScreen
from tests.session.canned import ASKED, CannedDesk
from tests.session.driving import an_app, driven, settled


async def _at_once(pilot: Pilot[None], *keys: str) -> None:
    """All keys in one go, as a terminal delivers what was pasted or typed while it lagged."""
    assert pilot.app._driver is not None
    for key in keys:
        event = Key(key, key if len(key) == 1 else None)
        event.set_sender(pilot.app)
        pilot.app._driver.send_message(event)
    for _ in keys:
        await settled(pilot)


@pytest.mark.parametrize("leaves", ["tab", "enter"])
def test_what_is_typed_behind_the_key_that_leaves_a_field_stands_in_the_next(leaves: str) -> None:
    async def drive() -> None:
        app = an_app(ASKED.with_text("ttft_ms", "").with_text("tpot_ms", ""), desk=CannedDesk())
        async with driven(app) as pilot:
            first, second = (app.screen.query_one(f"#field-{name}", Input) for name in ("ttft_ms", "tpot_ms"))
            first.focus()
            await settled(pilot)
            await _at_once(pilot, *"245", "backspace", leaves, *"350")
            assert (first.value, second.value) == ("24", "350")

    asyncio.run(drive())


def test_what_is_typed_behind_a_key_that_opens_a_box_stands_in_it() -> None:
    async def drive() -> None:
        app = an_app(ASKED, desk=CannedDesk())
        async with driven(app) as pilot:
            await pilot.press("escape", "2")
            await _at_once(pilot, *"efs1")
            assert isinstance(app.screen, PathScreen)
            assert app.screen.query_one(Input).value == "fs1"
            assert app.state.filter == "frontier"

    asyncio.run(drive())


def test_reasons_that_come_late_never_stand_for_another_plan() -> None:
    async def drive() -> None:
        app = an_app(ASKED, desk=CannedDesk())
        async with driven(app) as pilot:
            await pilot.press("escape", "2", "down")
            await settled(pilot)
            assert app.detail is not None
            assert app.planned is not None
            late, best = app.detail, app.planned.advice.chosen.id
            await pilot.press("up")
            await settled(pilot)
            app._detailed(app.planned, late)
            assert app.selected == app.detail.chosen.id == best

    asyncio.run(drive())
