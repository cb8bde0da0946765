"""A user types, errs, asks for what no plan meets, and resizes. The planner is the real one where its answer matters."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input, Static

from advisor.backends.techniques import TECHNIQUES
from advisor.planfile.store import read_plan
from advisor.service import PlannerCache
from advisor.tui.form.history import History
from advisor.tui.form.question import question_of
from advisor.tui.form.saved_state import load_state
from advisor.tui.form.values import Constraint, FormValues
from advisor.tui.panels.field_row import FieldRow
from advisor.tui.panels.plans import PlansPanel
from advisor.tui.settings import AppSettings
from advisor.tui.status_text import effective_values, unreadable_line
from advisor.tui.workers.planning_client import Planned
from tests.rendering.text.test_text import FITS
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import (
    LLAMA,
    ON_A_CARD,
    SHARED_APP,
    an_app,
    driven,
    frame,
    message_of,
    planning_alone,
    rows_of,
    settled,
    shared_app,
    shared_client,
    typed,
)


def test_a_limit_that_is_typed_is_planned_for() -> None:
    async def drive() -> None:
        async with shared_app() as (app, pilot):
            await typed(pilot, "ttft_ms", "0.5s")
            assert app.planning.planned is not None
            assert app.planning.planned.advice.request.limits.bound("ttft_ms_p95") == 500
            assert app.store.state.values.text("ttft_ms") == "0.5s"
            assert "≤ 500 ms" in frame(app)

    SHARED_APP.run(drive())


def test_what_cannot_be_read_says_what_to_type_and_leaves_the_last_plan() -> None:
    async def drive() -> None:
        async with shared_app(client=CannedClient()) as (app, pilot):
            before = rows_of(app)
            await typed(pilot, "context", "much")
            assert rows_of(app) == before
            assert "type 8192" in " ".join(frame(app).split())
            assert app.screen.query_one("#row-context", FieldRow).has_class("-wrong")
            await typed(pilot, "context", "8k")
            assert not app.screen.query_one("#row-context", FieldRow).has_class("-wrong")

    SHARED_APP.run(drive())


def test_a_saved_field_that_cannot_be_read_is_planned_with_its_last_readable_text() -> None:
    unreadable = ON_A_CARD.with_text("context", "much")
    history = History(unreadable, (ON_A_CARD, ON_A_CARD.with_text("context", "8k")))

    async def drive() -> None:
        async with planning_alone(unreadable, shared_client(), history) as (planning, _):
            assert planning.planned is not None
            assert planning.planned.values.text("context") == "8k"
            assert planning.planned.advice.request.workload.longest_tokens == 8192
            errors = unreadable.errors()
            assert unreadable_line(planning.planned, errors).endswith("The plan shown is for Context 8k.")

    asyncio.run(drive())
    limited = history.changed(unreadable.with_text("tpot_ms", "30")).readable(ON_A_CARD.with_text("context", "8k"))
    assert limited == ON_A_CARD.with_text("context", "8k").with_text("tpot_ms", "30")


def test_empty_fields_show_the_values_that_the_planner_used() -> None:
    def effective(values: FormValues) -> dict[str, str]:
        _, request = PlannerCache().prepare(question_of(values))
        return effective_values(Planned(values, replace(FITS, request=request), (), 20.0, False))

    short = ON_A_CARD.with_text("context", "512")
    assert effective(ON_A_CARD)["context"] == "4096, assumed"
    assert [effective(short)[name] for name in ("prompt_tokens", "output_tokens")] == ["384, assumed", "128, assumed"]
    assert effective(short.with_text("request_rate", "2"))["concurrency"] == "none"

    async def drive() -> None:
        async with shared_app(client=CannedClient()) as (app, _):
            assert app.planning.planned is not None
            used = effective_values(app.planning.planned)
            assert app.screen.query_one("#field-concurrency", Input).placeholder == used["concurrency"]
            assert used["context"] in frame(app)

    SHARED_APP.run(drive())


def test_where_nothing_fits_the_nearest_plans_stay_and_a_relaxation_can_be_taken() -> None:
    async def drive() -> None:
        async with shared_app() as (app, pilot):
            await typed(pilot, "tpot_ms", "1")
            assert rows_of(app)
            assert all(row[0].startswith("×") for row in rows_of(app))
            assert "No plan meets every limit" in message_of(app)
            await pilot.press("escape", "r")
            await settled(pilot)
            await pilot.press("enter")
            await settled(pilot)
            assert app.store.state.values.text("tpot_ms") not in ("", "1")
            assert app.planning.planned is not None
            assert app.planning.planned.advice.binding is None
            assert app.screen.query_one("#field-tpot_ms", Input).value == app.store.state.values.text("tpot_ms")

    SHARED_APP.run(drive())


def test_letters_do_not_fire_while_typing() -> None:
    async def drive() -> None:
        async with shared_app(client=CannedClient()) as (app, pilot):
            await typed(pilot, "hardware", "sfmceu")
            assert app.screen.query_one("#field-hardware", Input).value == "sfmceu"
            assert (app.store.state.sort, app.store.state.filter, len(app.screen_stack)) == ("rank", "frontier", 1)

    SHARED_APP.run(drive())


def test_undo_takes_back_a_word_and_redo_types_it_again() -> None:
    async def drive() -> None:
        async with shared_app(client=CannedClient()) as (app, pilot):
            await typed(pilot, "tpot_ms", "25")
            await pilot.press("escape", "u")
            await settled(pilot)
            assert app.store.state.values == ON_A_CARD
            assert app.screen.query_one("#field-tpot_ms", Input).value == ""
            await pilot.press("ctrl+r")
            await settled(pilot)
            assert app.store.state.values.text("tpot_ms") == "25"

    SHARED_APP.run(drive())


def test_without_a_model_as_after_undoing_everything_nothing_is_said_to_be_planned() -> None:
    async def drive() -> None:
        async with shared_app(FormValues(), client=CannedClient()) as (app, pilot):
            for name, text in ON_A_CARD.texts.items():
                app.planning.type_into(name, text)
            await settled(pilot)
            header = app.screen.query_one("#header", Static)
            assert "│ planned │" in str(header.content)
            while app.store.state.history.past:
                await pilot.press("escape", "u")
            await settled(pilot)
            assert app.store.state.values == FormValues()
            assert "│ ready │ no model yet │" in str(header.content)
            assert message_of(app).startswith("No model: type one")

    SHARED_APP.run(drive())


@pytest.mark.parametrize(
    ("size", "shown"), [((120, 40), 4), ((80, 24), 1), pytest.param((200, 50), 4, marks=pytest.mark.slow)], ids=["120", "80", "200"]
)
def test_below_a_hundred_columns_one_panel_is_shown_at_a_time(size: tuple[int, int], shown: int) -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient(), size=size) as (app, pilot):
            for key in "1234" if shown == 1 else "13":
                await pilot.press("escape", key)
                await settled(pilot)
                visible = [panel for panel in app.screen.query(".panel") if panel.region.area]
                assert len(visible) == shown
                assert any(panel.has_focus_within or panel.has_focus for panel in visible)

    SHARED_APP.run(drive())


def test_resizing_keeps_the_selected_plan() -> None:
    async def drive() -> None:
        async with shared_app(client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "2", "f", "down")
            await settled(pilot)
            chosen = app.planning.selected
            for size in ((80, 24), (120, 40)):
                await pilot.resize_terminal(*size)
                await settled(pilot)
                table = app.screen.query_one(PlansPanel)
                assert app.planning.selected == chosen == table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    SHARED_APP.run(drive())


def test_a_forbidden_technique_is_in_no_plan() -> None:
    client = shared_client()
    free = client.answer(ON_A_CARD)
    without = client.answer(ON_A_CARD.with_constraint("weights-int8", Constraint.FORBIDDEN))
    assert free is not None
    assert without is not None
    assert "weights-int8" in free.advice.chosen.names
    assert all("weights-int8" not in plan.candidate.names for plan in without.alternatives)


@pytest.mark.slow
def test_a_technique_that_is_forbidden_with_w_is_in_no_plan() -> None:
    async def drive() -> None:
        async with shared_app() as (app, pilot):
            assert app.planning.planned is not None
            assert "weights-int8" in app.planning.planned.advice.chosen.names
            await pilot.press("escape", "w")
            await settled(pilot)
            below = [technique.name for technique in TECHNIQUES].index("weights-int8")
            await pilot.press(*["down"] * below, "enter")
            await settled(pilot)
            assert app.store.state.values.forbid == ("weights-int8",)
            assert app.planning.planned is not None
            assert all("weights-int8" not in plan.candidate.names for plan in app.planning.planned.alternatives)

    SHARED_APP.run(drive())


def test_two_marked_plans_are_compared_side_by_side() -> None:
    async def drive() -> None:
        async with shared_app(client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "2", "space", "down", "space", "c")
            await settled(pilot)
            assert len(app.store.state.marked) == 2
            text = frame(app)
            assert "first" in text
            assert "second" in text
            assert "All limits met" in text
            assert "same" in text

    SHARED_APP.run(drive())


def test_arrows_in_the_plot_walk_the_frontier_and_move_the_cursor() -> None:
    async def drive() -> None:
        async with shared_app(client=CannedClient()) as (app, pilot):
            assert app.planning.planned is not None
            best = app.planning.selected
            await pilot.press("escape", "4", "left")
            await settled(pilot)
            if app.planning.selected == best:
                await pilot.press("right")
                await settled(pilot)
            assert app.planning.selected != best
            table = app.screen.query_one(PlansPanel)
            assert table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value == app.planning.selected

    SHARED_APP.run(drive())


def test_the_selected_plan_is_saved_and_opened_again(tmp_path: Path) -> None:
    async def drive() -> None:
        file = tmp_path / "mine.yaml"
        async with shared_app(ON_A_CARD.with_text("tpot_ms", "30")) as (app, pilot):
            await pilot.press("escape", "e")
            await settled(pilot)
            app.screen.query_one(Input).value = str(file)
            await pilot.press("enter")
            await settled(pilot)
            plan = read_plan(file)
            assert plan.limits.bound("tpot_ms_p95") == 30
            await pilot.press("o")
            await settled(pilot)
            app.screen.query_one(Input).value = str(file)
            await pilot.press("enter")
            await settled(pilot)
            assert app.store.state.values.text("model") == LLAMA
            assert app.planning.planned is not None
            assert app.planning.client.plan_file(app.store.state.values, app.planning.planned.advice).id == plan.id

    SHARED_APP.run(drive())


def test_the_state_is_saved_as_it_changes_and_resumes(tmp_path: Path) -> None:
    async def drive() -> None:
        file = tmp_path / "session.json"
        app = an_app(settings=AppSettings(resume=True, file=file), client=CannedClient())
        async with driven(app) as pilot:
            await typed(pilot, "tpot_ms", "25ms")
        resumed = load_state(file)
        assert resumed is not None
        assert resumed == app.store.state
        assert resumed.values.text("tpot_ms") == "25ms"

    asyncio.run(drive())


def test_the_start_screen_leads_to_a_plan_and_lists_the_last_model_first_afterwards() -> None:
    async def drive() -> None:
        app = an_app(FormValues(), AppSettings(), CannedClient())
        async with driven(app) as pilot:
            await pilot.press(*"3.1-8b-inst", "enter")
            await settled(pilot)
            assert app.store.state.values.text("model") == "meta-llama/Llama-3.1-8B-Instruct"
            assert app.planning.planned is not None
            await pilot.press("escape", "0")
            await settled(pilot)
            assert app.screen.query_one(Input).value == ""
            assert "meta-llama/Llama-3.1-8B-Instruct   last used" in frame(app)

    asyncio.run(drive())


def test_escape_leads_back_from_every_box() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            for key in ("question_mark", "w", "m", "o", "e"):
                await pilot.press("escape", key)
                await settled(pilot)
                assert len(app.screen_stack) == 2
                await pilot.press("escape")
                await settled(pilot)
                assert len(app.screen_stack) == 1

    SHARED_APP.run(drive())


def test_plans_that_were_not_simulated_are_marked_and_the_mark_is_explained() -> None:
    async def drive() -> None:
        async with shared_app() as (app, pilot):
            assert not any("~" in row[0] for row in rows_of(app))
            await pilot.press("escape", "f")
            await settled(pilot)
            assert app.planning.planned is not None
            shown = [plan for plan in app.planning.planned.alternatives if plan.feasibility.value != "rejected"]
            marked = ["~" in row[0] for row in rows_of(app)]
            assert marked == [not plan.simulated for plan in shown]
            assert any(marked)
            assert "closed form, not simulated yet" in frame(app)

    SHARED_APP.run(drive())
