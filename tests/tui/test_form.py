"""The form: arrows walk it, each field that is wrong says so, and it holds the question whichever screen changed it."""

import asyncio

from textual.widgets import Input, Static

from advisor.tui.form.choices import models
from advisor.tui.panels.field_row import FieldRow
from advisor.tui.panels.limits import LimitsPanel
from tests.tui.canned import IMPOSSIBLE, QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, PanelApp, frame, message_of, planning_alone, settled, shared_app


def test_arrows_go_from_field_to_field_and_stay_at_the_ends() -> None:
    async def drive() -> list[str | None]:
        app = PanelApp(LimitsPanel(QUESTION))
        visited = []
        async with app.run_test() as pilot:
            app.query_one("#field-ttft_ms", Input).focus()
            for key in ("down", "up", "up", *("down",) * 20, "up"):
                await pilot.press(key)
                assert app.screen.focused is not None
                visited.append(app.screen.focused.id)
        return visited

    visited = asyncio.run(drive())
    assert visited[:3] == ["field-tpot_ms", "field-ttft_ms", "field-load_trace"]
    assert visited[-2:] == ["field-prefer", "field-use_case"]


def test_two_fields_that_cannot_be_read_each_show_their_own_error() -> None:
    values = QUESTION.with_text("devices", "two").with_text("tpot_ms", "fast")

    async def drive() -> dict[str, str]:
        panel = LimitsPanel(values)
        async with PanelApp(panel).run_test():
            panel.show_errors(values.errors())
            wrong = [row for row in panel.query(FieldRow) if row.has_class("-wrong")]
            return {row.field.name: str(row.query_one(".error", Static).content) for row in wrong}

    errors = asyncio.run(drive())
    assert list(errors) == ["devices", "tpot_ms"]
    assert [sentence.rpartition(";")[2] for sentence in errors.values()] == [" type 2, or nothing", " type 500, or nothing"]


def test_a_model_that_is_picked_on_the_start_screen_stands_in_the_form() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "0", *"demo")
            await settled(pilot)
            await pilot.press("enter")
            await settled(pilot)
            assert app.screen.query_one("#field-model", Input).value == app.store.state.values.text("model") == "demo"

    SHARED_APP.run(drive())


def test_a_name_that_begins_as_typed_stands_before_those_that_hold_it() -> None:
    matches = [option.value for option in models("").matching("llama-3.1")]
    assert matches[0] == "meta-llama/Llama-3.1-8B"
    assert "meta-llama/Meta-Llama-3.1-405B" in matches


def test_a_mark_is_shown_with_the_key_that_follows() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "2", "space")
            assert message_of(app).startswith("Marked: ")
            await pilot.press("down", "space")
            assert message_of(app) == "Two plans are marked: c compares them."
            await pilot.press("space")
            assert message_of(app) == "The mark is removed."

    SHARED_APP.run(drive())


def test_where_nothing_fits_the_title_names_no_filter_that_would_be_empty() -> None:
    async def drive() -> None:
        async with shared_app(IMPOSSIBLE, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "2", "f")
            await settled(pilot)
            assert "rejected  [all]" in frame(app)
            assert "whatever the filter" in message_of(app)

    SHARED_APP.run(drive())


def test_plans_that_were_marked_for_another_model_are_marked_no_more() -> None:
    async def drive() -> None:
        async with planning_alone(QUESTION, CannedClient()) as (planning, store):
            assert planning.planned is not None
            first, second = (candidate.id for candidate in planning.planned.advice.ranked[:2])
            store.mark(first)
            store.mark(second)
            planning.select(second)
            planning.type_into("tpot_ms", "21")
            assert (store.state.marked, store.state.selected) == ((first, second), second)
            planning.type_into("model", "demo")
            assert (store.state.marked, store.state.selected) == ((), None)

    asyncio.run(drive())
