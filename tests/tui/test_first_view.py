"""What is drawn follows the room that it gets, however late it gets it."""

from advisor.tui.panels.memory import MemoryPanel
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, settled, shared_app


def test_the_memory_bar_follows_the_width_of_its_panel() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient(), size=(120, 40)) as (app, pilot):
            memory = app.screen.query_one(MemoryPanel)
            memory.styles.width = 50
            await settled(pilot)
            assert 40 < max(map(len, str(memory.content).splitlines())) <= 50

    SHARED_APP.run(drive())
