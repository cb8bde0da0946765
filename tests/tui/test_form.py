"""The form: arrows walk it, each field that is wrong says so, and it holds the question whichever screen changed it."""

from textual.widgets import Input, Static

from advisor.tui.form.choices import models
from advisor.tui.panels.field_row import FieldRow
from tests.tui.canned import IMPOSSIBLE, QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, frame, message_of, settled, shared_app, typed


def test_arrows_go_from_field_to_field_and_stay_at_the_ends() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            app.screen.query_one("#field-ttft_ms", Input).focus()
            visited = []
            for key in ("down", "up", "up", *("down",) * 20, "up"):
                await pilot.press(key)
                assert app.screen.focused is not None
                visited.append(app.screen.focused.id)
            assert visited[:3] == ["field-tpot_ms", "field-ttft_ms", "field-load_trace"]
            assert visited[-2:] == ["field-prefer", "field-quality_loss"]

    SHARED_APP.run(drive())


def test_two_fields_that_cannot_be_read_each_say_so() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await typed(pilot, "devices", "two")
            await typed(pilot, "tpot_ms", "fast")
            wrong = [row.field.name for row in app.screen.query(FieldRow) if row.has_class("-wrong")]
            assert wrong == ["devices", "tpot_ms"]
            said = [str(app.screen.query_one(f"#row-{name} .error", Static).content) for name in wrong]
            assert [sentence.rpartition(";")[2] for sentence in said] == [" type 2, or nothing", " type 500, or nothing"]

    SHARED_APP.run(drive())


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
    found = [option.value for option in models("").matching("llama-3.1")]
    assert found[0] == "meta-llama/Llama-3.1-8B"
    assert "meta-llama/Meta-Llama-3.1-405B" in found


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
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "2", "space", "down", "space")
            assert len(app.store.state.marked) == 2
            await typed(pilot, "model", "demo")
            assert not app.store.state.marked
            assert app.store.state.selected is None

    SHARED_APP.run(drive())
