"""What is drawn follows the room that it gets, however late it gets it."""

import asyncio

from advisor.tui.panels.memory import MemoryPanel
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import an_app, driven, settled


def test_the_memory_bar_follows_the_width_of_its_panel() -> None:
    async def drive() -> None:
        app = an_app(QUESTION, client=CannedClient())
        async with driven(app, (120, 40)) as pilot:
            memory = app.screen.query_one(MemoryPanel)
            memory.styles.width = 50
            await settled(pilot)
            assert 40 < max(map(len, str(memory.content).splitlines())) <= 50

    asyncio.run(drive())
