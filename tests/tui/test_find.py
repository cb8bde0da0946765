"""A slash searches plans by their techniques and reasons by their texts; Enter stays there, Esc goes back to where it was."""

import asyncio

from textual.app import App
from textual.widgets import Static

from advisor.rendering.text.style import Look
from advisor.tui.app import AdvisorApp
from advisor.tui.panels.plans import PlansPanel, TableContent
from advisor.tui.panels.why import WhyPanel
from advisor.tui.screens.find import FindScreen, has_words
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, PanelApp, settled, shared_app


def _names(app: AdvisorApp) -> tuple[str, ...]:
    assert app.planning.planned is not None
    return next(plan.candidate.names for plan in app.planning.planned.alternatives if plan.id == app.planning.selected)


def test_a_plan_can_be_searched_by_a_technique_also_where_the_filter_hides_it() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient(), size=(80, 24)) as (app, pilot):
            await pilot.press("escape", "2")
            first = app.planning.selected
            await pilot.press("slash", *"hts-int8")
            await settled(pilot)
            assert "weights-int8" in _names(app)
            assert app.screen_stack[0].query_one(PlansPanel).has_focus
            await pilot.press("escape")
            await settled(pilot)
            assert app.planning.selected == first
            await pilot.press("slash", *"hts-int8", "enter")
            await settled(pilot)
            assert "weights-int8" in _names(app)
            assert len(app.screen_stack) == 1

    SHARED_APP.run(drive())


def test_up_and_down_go_through_all_matches_and_that_there_is_none_is_said() -> None:
    names = ("kv-int4", "weights-int4", "weights-int8")
    shown: list[str] = []
    find = FindScreen("a plan", lambda words: [name for name in names if has_words(name, words)], shown.append)

    async def drive() -> str:
        app = App[None]()
        async with app.run_test() as pilot:
            await app.push_screen(find)
            await pilot.press(*"int4")
            for key, match in (("down", "weights-int4"), ("down", "kv-int4"), ("up", "weights-int4")):
                await pilot.press(key)
                assert shown[-1] == match
            await pilot.press(*"xyz")
            return str(find.query_one("#matches", Static).content)

    assert asyncio.run(drive()) == "no match"
    assert shown[-1] == "weights-int4"


def test_in_the_reasons_the_cursor_goes_to_the_next_technique_of_that_name() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient(), size=(80, 24)) as (app, pilot):
            await pilot.press("escape", "3", "slash", *"loss 1.3")
            await settled(pilot)
            why = app.screen_stack[0].query_one(WhyPanel)
            assert why.topic == "kv-int8"
            await pilot.press("escape")
            await settled(pilot)
            assert why.topic is None

    SHARED_APP.run(drive())


def test_home_and_end_go_to_the_first_and_the_last_plan() -> None:
    planned = CannedClient().answer(QUESTION)
    assert planned is not None
    plans = planned.alternatives

    async def drive() -> list[int]:
        table = PlansPanel()
        async with PanelApp(table).run_test() as pilot:
            table.fill(TableContent(plans=plans, selected=plans[1].id, marked=(), look=Look(80), palette="dark"))
            table.focus()
            rows = [table.cursor_row]
            for key in ("end", "home"):
                await pilot.press(key)
                rows.append(table.cursor_row)
            return rows

    assert asyncio.run(drive()) == [1, len(plans) - 1, 0]


def test_the_palette_does_what_the_keys_do() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient(), size=(80, 24)) as (app, pilot):
            await pilot.press("escape", "2", "ctrl+p", *"filter", "enter")
            await settled(pilot)
            assert app.store.state.filter == "feasible"
            await pilot.press("ctrl+p", *"theme", "enter")
            await settled(pilot)
            assert app.palette == "light"

    SHARED_APP.run(drive())
