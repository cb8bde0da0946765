"""Drives the app without a terminal: the app of a test, waiting for planning, and text frames of the screen."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from rich.console import Console
from textual.pilot import Pilot

from advisor.tui.app import AdvisorApp
from advisor.tui.form.history import History
from advisor.tui.form.saved_state import SavedState
from advisor.tui.form.values import FormValues
from advisor.tui.panels.plans import PlansPanel
from advisor.tui.settings import AppSettings
from advisor.tui.workers.planning_client import PlanningClient, ThisMachine

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
ON_A_CARD = FormValues({"model": LLAMA, "hardware": "rtx-4090"})


class LocalClient(PlanningClient):
    """The real planner on a machine that is the same everywhere."""

    def this_machine(self) -> ThisMachine:
        return ThisMachine("some-cpu", "Some CPU, 64.0 GiB")


@cache
def shared_client() -> LocalClient:
    """One client for all tests that plan for catalogue hardware: stacks are priced once."""
    return LocalClient()


def an_app(values: FormValues = ON_A_CARD, settings: AppSettings | None = None, client: PlanningClient | None = None) -> AdvisorApp:
    """An app that begins with the plan."""
    return AdvisorApp(client or shared_client(), SavedState(History(values)), settings or AppSettings(resume=True))


@asynccontextmanager
async def driven(app: AdvisorApp, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Pilot[None]]:
    """The app running in a terminal of that size, its first plan there."""
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        yield pilot


async def settled(pilot: Pilot[None]) -> None:
    """Wait for what runs in threads, and for what follows from it."""
    app = pilot.app
    assert isinstance(app, AdvisorApp)
    for _ in range(200):
        await pilot.pause()
        await app.workers.wait_for_complete()
        await pilot.pause()
        if not app.planning.waiting:
            return
        await pilot.pause(0.05)
    raise AssertionError("the app never came to rest")


async def typed(pilot: Pilot[None], field: str, text: str) -> None:
    """Type into a field in place of what stands there."""
    from textual.widgets import Input

    row = pilot.app.screen.query_one(f"#field-{field}", Input)
    row.focus()
    row.value = ""
    await pilot.press(*text)
    await settled(pilot)


def frame(app: AdvisorApp) -> str:
    """What stands on the screen, as text without trailing blanks."""
    console = Console(
        file=io.StringIO(), record=True, width=app.size.width, height=app.size.height, force_terminal=True, legacy_windows=False
    )
    # Textual has no public way to the text of its screen.
    console.print(app.screen._compositor.render_update(full=True))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n"


def rows_of(app: AdvisorApp) -> list[list[str]]:
    """The cells of the table of plans."""
    table = app.screen.query_one(PlansPanel)
    return [[cell.plain for cell in table.get_row_at(row)] for row in range(table.row_count)]


def message_of(app: AdvisorApp) -> str:
    """The message line."""
    from textual.widgets import Static

    return str(app.screen.query_one("#message", Static).content).strip()
