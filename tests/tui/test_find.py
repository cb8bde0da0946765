"""A slash finds plans by their techniques and reasons by what they say; Enter stays there, Esc goes back to where it was."""

from advisor.tui.app import AdvisorApp
from advisor.tui.panels.plans import PlansPanel
from advisor.tui.panels.why import WhyPanel
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, frame, settled, shared_app


def _names(app: AdvisorApp) -> tuple[str, ...]:
    assert app.planning.planned is not None
    return next(plan.candidate.names for plan in app.planning.planned.alternatives if plan.id == app.planning.selected)


def test_a_plan_is_found_by_a_technique_also_where_the_filter_hides_it() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient(), size=(80, 24)) as (app, pilot):
            await pilot.press("escape", "2")
            first = app.planning.selected
            await pilot.press("slash", *"weights-int8")
            await settled(pilot)
            assert "weights-int8" in _names(app)
            assert app.screen_stack[0].query_one(PlansPanel).has_focus
            await pilot.press("escape")
            await settled(pilot)
            assert app.planning.selected == first
            await pilot.press("slash", *"weights-int8", "enter")
            await settled(pilot)
            assert "weights-int8" in _names(app)
            assert len(app.screen_stack) == 1

    SHARED_APP.run(drive())


def test_up_and_down_go_through_all_that_is_found_and_nothing_found_is_said() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient(), size=(80, 24)) as (app, pilot):
            await pilot.press("escape", "2", "slash", *"int4")
            await settled(pilot)
            first = app.planning.selected
            await pilot.press("down")
            await settled(pilot)
            assert app.planning.selected != first
            await pilot.press("up")
            await settled(pilot)
            assert app.planning.selected == first
            await pilot.press(*"xyz")
            await settled(pilot)
            assert "no match" in frame(app)
            assert app.planning.selected == first

    SHARED_APP.run(drive())


def test_in_the_reasons_the_next_technique_of_that_name_is_found() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient(), size=(80, 24)) as (app, pilot):
            await pilot.press("escape", "3", "slash", *"quality loss 1.3")
            await settled(pilot)
            why = app.screen_stack[0].query_one(WhyPanel)
            assert why.topic == "kv-int8"
            await pilot.press("escape")
            await settled(pilot)
            assert why.topic is None

    SHARED_APP.run(drive())


def test_home_and_end_go_to_the_first_and_the_last_plan() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient(), size=(80, 24)) as (app, pilot):
            await pilot.press("escape", "2", "f", "f", "end")
            await settled(pilot)
            table = app.screen.query_one(PlansPanel)
            assert table.cursor_row == table.row_count - 1 > 0
            await pilot.press("home")
            await settled(pilot)
            assert table.cursor_row == 0

    SHARED_APP.run(drive())


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
