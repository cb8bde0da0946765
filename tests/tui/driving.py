"""Drives the app without a terminal: the app of a test or one app shared by tests, waiting for planning, and text frames of the screen."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any, TypeVar

from rich.console import Console
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widget import Widget

from advisor.tui import gc_control
from advisor.tui.app import AdvisorApp
from advisor.tui.app_planning import PlanningController
from advisor.tui.app_state import StateStore
from advisor.tui.form.history import History
from advisor.tui.form.saved_state import SavedState
from advisor.tui.form.values import FormValues
from advisor.tui.panels.plans import PlansPanel
from advisor.tui.screens.insights_cache import InsightsCache
from advisor.tui.screens.plan import PlanScreen
from advisor.tui.settings import AppSettings
from advisor.tui.themes import use_theme
from advisor.tui.workers.machine_tasks import MachineTasks
from advisor.tui.workers.planning_client import Planned, PlanningClient, ThisMachine

Result = TypeVar("Result")
LLAMA = "meta-llama/Meta-Llama-3.1-8B"
ON_A_CARD = FormValues({"model": LLAMA, "hardware": "rtx-4090"})


class LocalClient(PlanningClient):
    """The real planner on a machine that is the same everywhere."""

    def this_machine(self) -> ThisMachine:
        return ThisMachine("some-cpu", "Some CPU, 64.0 GiB")


class RememberingClient(LocalClient):
    """Computes each answer once: an answer is a frozen value, and tests ask the same few questions."""

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[str, Planned] = {}

    def answer(self, values: FormValues, abandoned: Callable[[], bool] = lambda: False) -> Planned | None:
        question = repr(values)
        if question not in self._answers:
            planned = super().answer(values, abandoned)
            if planned is None:
                return None
            self._answers[question] = planned
        return self._answers[question]

    def forget_machine(self) -> None:
        super().forget_machine()
        self._answers.clear()


@cache
def shared_client() -> RememberingClient:
    """One client for all tests that plan for catalogue hardware: stacks are priced once."""
    return RememberingClient()


def an_app(values: FormValues = ON_A_CARD, settings: AppSettings | None = None, client: PlanningClient | None = None) -> AdvisorApp:
    """An app that begins with the plan."""
    return AdvisorApp(client or shared_client(), SavedState(History(values)), settings or AppSettings(resume=True))


@asynccontextmanager
async def driven(app: AdvisorApp, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Pilot[None]]:
    """The app running in a terminal of that size, its first plan there."""
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        yield pilot


class PanelApp(App[None]):
    """An app with one panel and nothing else."""

    def __init__(self, panel: Widget) -> None:
        super().__init__()
        self._panel = panel

    def compose(self) -> ComposeResult:
        yield self._panel


@asynccontextmanager
async def planning_alone(
    values: FormValues, client: PlanningClient, history: History | None = None
) -> AsyncIterator[tuple[PlanningController, StateStore]]:
    """The planning controller and its state without any screen, its first answer there."""
    app = App[None]()
    async with app.run_test() as pilot:
        store = StateStore(app, SavedState(history or History(values)), None)
        planning = PlanningController(app, client, store)
        planning.plan_soon(0)
        await answered(pilot, planning)
        yield planning, store


async def answered(pilot: Pilot[None], planning: PlanningController) -> None:
    """Wait until the question is fully answered."""
    for _ in range(200):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        if not planning.waiting:
            return
        await pilot.pause(0.05)
    raise AssertionError("the question was never answered")


class SharedApp:
    """One running app for many tests: starting it takes longer than most of them. Each test begins with its own question and client."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._app: AdvisorApp | None = None
        self._pilot: Pilot[None] | None = None
        self._running: AbstractAsyncContextManager[Pilot[None]] | None = None
        self._in_use = False

    def run(self, test: Coroutine[Any, Any, Result]) -> Result:
        """Run a test in the event loop of the app; an app whose test failed is closed."""
        try:
            return self._runner.run(test)
        finally:
            if self._in_use:
                self.close()

    @asynccontextmanager
    async def use(self, values: FormValues, client: PlanningClient, size: tuple[int, int]) -> AsyncIterator[tuple[AdvisorApp, Pilot[None]]]:
        """The app as if it had just started with this question: its first plan shown, nothing saved, marked, changed or under way."""
        if self._app is None:
            await self._start(values, client, size)
        else:
            await self._reset(values, client, size)
        assert self._app is not None
        assert self._pilot is not None
        await settled(self._pilot)
        self._in_use = True
        yield self._app, self._pilot
        assert self._app._exception is None
        self._in_use = False

    def close(self) -> None:
        """End the app, if it runs; the next test starts another one."""
        running, self._running, self._app, self._pilot, self._in_use = self._running, None, None, None, False
        if running is not None:
            self._runner.run(_leave(running))

    async def _start(self, values: FormValues, client: PlanningClient, size: tuple[int, int]) -> None:
        self._app = an_app(values, client=client)
        self._running = self._app.run_test(size=size)
        self._pilot = await self._running.__aenter__()
        gc_control.restore(self._app._gc_thresholds)
        gc_control.collect()  # full collections of what was loaded so far would take a sixth of the tests' time

    async def _reset(self, values: FormValues, client: PlanningClient, size: tuple[int, int]) -> None:
        app, pilot = self._app, self._pilot
        assert app is not None
        assert pilot is not None
        while len(app.screen_stack) > 1:
            app.pop_screen()
            await pilot.pause()
        app.go_to("plan")
        await settled(pilot)
        screen, jobs, planning = app.screen, app.jobs, app.planning
        assert isinstance(screen, PlanScreen)
        jobs.close()
        if jobs._tick is not None:
            jobs._tick.stop()
        app.set_keymap({})
        app.clear_notifications()
        if app.palette != "dark":
            use_theme(app, "dark")
        jobs.use_tasks(MachineTasks())
        jobs.job, jobs.chip = None, ""
        screen.note, screen.why.topic, screen.insights = "", None, InsightsCache()
        screen.why.scroll_home(animate=False)
        planning.client, planning.problem, planning.planned, planning.detail = client, None, None, None
        planning.end_step()
        app.store.state = SavedState(History(values))
        screen.show_values(values)
        screen.open_field("model")
        if app.size != size:
            await pilot.resize_terminal(*size)
        planning.detect_machine()
        planning.plan_soon(0)


async def _leave(running: AbstractAsyncContextManager[Pilot[None]]) -> None:
    await running.__aexit__(None, None, None)


SHARED_APP = SharedApp()


def shared_app(
    values: FormValues = ON_A_CARD, client: PlanningClient | None = None, size: tuple[int, int] = (120, 40)
) -> AbstractAsyncContextManager[tuple[AdvisorApp, Pilot[None]]]:
    """The app that tests share, as if it had just started with `values`. Only within `SHARED_APP.run`."""
    return SHARED_APP.use(values, client or shared_client(), size)


async def settled(pilot: Pilot[None]) -> None:
    """Wait for what runs in threads, and for what follows from it."""
    app = pilot.app
    assert isinstance(app, AdvisorApp)
    await pilot.pause()
    await answered(pilot, app.planning)


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
